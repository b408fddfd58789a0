//! Matrices that kernels of ours multiply: of codes, which stay codes on the device, or of
//! floats.

use burn::tensor::{DType, Device, Shape, Tensor, bf16, f16};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::bridge::{self, Team, addresses, empty, upload};
use super::kernels::expand::expand_rows;
use super::kernels::multiply::{Cut, multiply_few};
use crate::device::Layout;
use crate::matrix::NotFinite;
use crate::quant::{Stored, small_scales};
use crate::source::StoredRows;
use crate::workers::Workers;

/// Rows of a product at most that are multiplied with codes as they are. A few passes over the codes cost
/// less than expanding them to eight times their size.
pub(super) const FEW_ROWS_MAX: usize = 32;
/// Rows at most for which a unit keeps sums, and for which floats are read as words: beyond that they would
/// be read more than once.
pub(super) const CUBE_ROWS_MAX: usize = 8;
/// Regrouping a weight takes as long as so many multiply-adds of a product.
const REGROUPING_WORK: usize = 64;

/// A quantised matrix, `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct Codes {
    layout: Layout,
    inputs: usize,
    outputs: usize,
    codes: CubeTensor,
    /// Of each group in turn: scale, and minimum if there is one.
    scales: CubeTensor,
}

/// Codes and scales of one row.
#[derive(Debug, Default)]
struct Line {
    words: Vec<u32>,
    scales: Vec<f16>,
}

impl Codes {
    /// Puts quantised rows on a device; nothing, if they are floats, or have scales too large for F16.
    ///
    /// # Errors
    ///
    /// If a weight is not finite.
    pub(super) fn load(
        rows: &StoredRows<'_>,
        device: &Device,
        workers: &Workers,
    ) -> Result<Option<Self>, NotFinite> {
        let StoredRows { stored, inputs, outputs, .. } = *rows;
        let Some(layout) = Layout::of(stored) else { return Ok(None) };
        let work = outputs * inputs * REGROUPING_WORK;
        let line = |output| {
            regroup(layout, stored, rows.row(output), &rows.values(output)).map_err(
                |NotFinite { index, value }| NotFinite { index: output * inputs + index, value },
            )
        };
        let lines: Result<Vec<Line>, NotFinite> =
            workers.each((0..outputs).collect(), work, line).into_iter().collect();
        let (mut words, mut scales) = (Vec::new(), Vec::new());
        for line in lines? {
            words.extend(line.words);
            scales.extend(line.scales);
        }
        if !scales.iter().all(|it| it.is_finite()) {
            return Ok(None);
        }
        let device = bridge::device(device);
        let codes = upload(&device, &words, DType::U32);
        let scales = upload(&device, &scales, DType::F16);
        Ok(Some(Self { layout, inputs, outputs, codes, scales }))
    }

    /// A matrix of floats as words; nothing, unless it has rows of whole vectors without gaps.
    pub(super) fn over(floats: &Tensor<2>) -> Option<Self> {
        let ([outputs, inputs], bytes) = (floats.dims(), floats.dtype().size());
        let layout = Layout::floats(8 * bytes);
        if !inputs.is_multiple_of(layout.in_vector()) {
            return None;
        }
        let floats = bridge::buffer(floats.clone());
        let words = Shape::from([outputs * inputs / layout.in_word()]);
        let codes = floats.is_contiguous().then(|| {
            let CubeTensor { client, device, handle, .. } = floats.clone();
            CubeTensor::new_contiguous(client, device, words, handle, DType::U32)
        })?;
        // There are no scales, and none are read.
        Some(Self { layout, inputs, outputs, codes, scales: floats })
    }

    /// `x W^T`, for up to [`FEW_ROWS_MAX`] rows.
    pub(super) fn multiply(&self, x: CubeTensor) -> CubeTensor {
        let client = x.client.clone();
        let rows = x.meta.num_elements() / self.inputs;
        let out = empty(&x.device, [rows, self.outputs], DType::F32);
        let Team { lanes, planes } = Team::of(&client);
        let in_cube = rows.next_power_of_two().min(CUBE_ROWS_MAX);
        // The more outputs a plane takes, the fewer activations it reads; with four of eight rows it
        // would need all registers that a unit can have.
        let outputs = if in_cube == 4 { 4 } else { 2 };
        let cut = Cut { lanes, planes, outputs, rows: in_cube };
        let cubes = [self.outputs.div_ceil(planes * outputs), rows.div_ceil(cut.rows)];
        multiply_few::launch(
            &client,
            CubeCount::Static(cubes[0] as u32, cubes[1] as u32, 1),
            Team { lanes, planes }.dim(),
            addresses([&x, &self.codes, &out]),
            self.layout.scales(),
            x.into_buffer_arg(),
            self.codes.clone().into_buffer_arg(),
            self.scales.clone().into_buffer_arg(),
            out.clone().into_buffer_arg(),
            rows,
            self.outputs,
            self.inputs / self.layout.in_vector(),
            cut,
            self.layout,
        );
        out
    }

    /// Some rows of the matrix, or all, as floats of a type, times `factor`.
    pub(super) fn expand(&self, dtype: DType, rows: Option<&[u32]>, factor: f32) -> CubeTensor {
        let (client, device) = (&self.codes.client, &self.codes.device);
        let count = rows.map_or(self.outputs, <[u32]>::len);
        let out = empty(device, [count, self.inputs], dtype);
        let in_row = self.inputs / self.layout.in_vector();
        let (cubes, dim) = bridge::units(client, count * in_row);
        let launch = match dtype {
            DType::BF16 => expand_rows::launch::<bf16>,
            _ => expand_rows::launch::<f32>,
        };
        launch(
            client,
            cubes,
            dim,
            addresses([&self.codes, &out]),
            self.layout.scales(),
            self.codes.clone().into_buffer_arg(),
            self.scales.clone().into_buffer_arg(),
            upload(device, rows.unwrap_or(&[0]), DType::U32).into_buffer_arg(),
            out.clone().into_buffer_arg(),
            count * in_row,
            in_row,
            factor,
            rows.is_some(),
            self.layout,
        );
        out
    }
}

/// Takes a stored row apart. Its codes are found again from its `values`, which are all multiples of a scale
/// from a minimum on.
fn regroup(layout: Layout, stored: Stored, row: &[u8], values: &[f32]) -> Result<Line, NotFinite> {
    if let Some(index) = values.iter().position(|it| !it.is_finite()) {
        return Err(NotFinite { index, value: values[index] });
    }
    let mut line = Line::default();
    let scales = row.chunks_exact(stored.block_bytes()).flat_map(|it| scales(stored, it));
    for (values, (scale, minimum)) in values.chunks_exact(layout.group).zip(scales) {
        let most = (1u32 << layout.bits) - 1;
        let code = |value: &f32| {
            let steps = if scale == 0.0 { 0.0 } else { ((value - minimum) / scale).round() };
            (steps + layout.center as f32).clamp(0.0, most as f32) as u32
        };
        for values in values.chunks_exact(layout.in_word()) {
            let codes = values.iter().rev().map(code);
            line.words.push(codes.fold(0, |word, code| word << layout.bits | code));
        }
        line.scales.push(f16::from_f32(scale));
        if layout.minimum {
            line.scales.push(f16::from_f32(minimum));
        }
    }
    Ok(line)
}

/// Scale and minimum of each group of a stored block.
fn scales(stored: Stored, block: &[u8]) -> Vec<(f32, f32)> {
    let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    match stored {
        Stored::Q4_0 | Stored::Q5_0 | Stored::Q8_0 => vec![(half(0), 0.0)],
        Stored::Q4_1 | Stored::Q5_1 => vec![(half(0), half(2))],
        Stored::Q4K | Stored::Q5K => {
            let small = small_scales(&block[4..16]).map(|it| it.map(f32::from));
            small.map(|[scale, minimum]| (half(0) * scale, -half(2) * minimum)).to_vec()
        }
        Stored::Q6K => {
            let small = block[192..208].iter().map(|it| f32::from(it.cast_signed()));
            small.map(|it| (half(208) * it, 0.0)).collect()
        }
        Stored::F32 | Stored::F16 | Stored::BF16 => unreachable!("floats have no layout"),
    }
}
