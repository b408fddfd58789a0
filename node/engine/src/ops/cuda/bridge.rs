//! Between tensors, as models see them, and buffers, as kernels do.

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Shape, Tensor};
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{calculate_cube_count_elemwise, ir::AddressType};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{Cube, CubeDevice};

/// Planes of a cube on GPUs.
const PLANES: usize = 4;
/// Units of a cube where there are no planes to speak of.
const PROCESSOR_UNITS: usize = 2;

/// The buffer of a tensor: its own, unless there are gaps between its rows.
pub(super) fn open<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    into_contiguous(buffer(tensor))
}

/// The buffer of a tensor, with gaps if there are any.
pub(super) fn buffer<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    tensor.try_into_primitive::<Cube>().expect("tensors are on a device of cubecl's")
}

/// A tensor with the values of a buffer.
pub(super) fn close<const D: usize>(buffer: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<Cube>(buffer)
}

/// The device behind burn's.
///
/// # Panics
///
/// If it is none of cubecl's.
pub(super) fn device(device: &Device) -> CubeDevice {
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => device.clone(),
        other => panic!("{other:?} runs no kernels of cubecl's"),
    }
}

/// A buffer of values that are yet to be written.
pub(super) fn empty<const D: usize>(
    device: &CubeDevice,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor {
    empty_device_contiguous_dtype(device.client(), device.clone(), Shape::from(shape), dtype)
}

/// A buffer of values.
pub(super) fn upload<T: CubeElement>(
    device: &CubeDevice,
    values: &[T],
    dtype: DType,
) -> CubeTensor {
    let client = device.client();
    let handle = client.create_from_slice(T::as_bytes(values));
    let shape = Shape::from([values.len()]);
    CubeTensor::new_contiguous(client, device.clone(), shape, handle, dtype)
}

/// The type of numbers that reach every place of these buffers.
pub(super) fn addresses<const N: usize>(buffers: [&CubeTensor; N]) -> AddressType {
    buffers.map(CubeTensor::required_address_type).into_iter().max().unwrap_or_default()
}

/// Cubes and units for work that is the same for each of so many values.
pub(super) fn units(client: &Client, values: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, values);
    (calculate_cube_count_elemwise(client, values, dim), dim)
}

/// The cubes of kernels whose units work together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Team {
    /// Units of a plane.
    pub(super) lanes: usize,
    /// Planes of a cube.
    pub(super) planes: usize,
}

impl Team {
    /// What suits a device.
    pub(super) fn of(client: &Client) -> Self {
        match client.properties().hardware.plane_size_max as usize {
            1 => Self { lanes: 1, planes: PROCESSOR_UNITS },
            lanes => Self { lanes, planes: PLANES },
        }
    }

    /// Units of a cube.
    pub(super) fn dim(self) -> CubeDim {
        CubeDim::new_2d(self.lanes as u32, self.planes as u32)
    }
}
