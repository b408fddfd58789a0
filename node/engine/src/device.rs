//! What a shard computes with.

#[cfg(feature = "cuda")]
mod cuda;
mod layout;

use std::fmt;
use std::str::FromStr;

pub(crate) use layout::Layout;
use serde::Deserialize;
use thalweg_wire::Bytes;

use crate::kv::KvType;
use crate::matrix::{Matrix, Precision};
use crate::quant::Stored;

/// What to compute with.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum ComputeDevice {
    /// The processors of this machine, with loops of our own.
    #[default]
    Cpu,
    /// One processor of this machine, with burn's own operations in F32: a reference for the others,
    /// and slow.
    Burn,
    /// The processors of this machine, with the kernels for GPUs and matrices of floats in F32: a check of
    /// these, and slow.
    Cube,
    /// An NVIDIA GPU, by its number, with kernels of our own.
    Cuda(usize),
}

/// A word that names no device.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is no device; there are `cpu`, `cuda`, `cuda:N` for GPU number N, and to check these `burn` and \
     `cube`"
)]
pub struct UnknownDevice(String);

/// A device that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A program without the code for it.
    #[error("this binary was built without CUDA; build it with ./x cuda")]
    NotBuilt,
    /// No driver library.
    #[error(
        "CUDA needs the library libcuda.so.1, which comes with NVIDIA's driver; install the driver, or \
         in a container pass the GPU through ({0})"
    )]
    NoDriver(String),
    /// Keys and values in a type that burn has no operations for.
    #[error("`{device}` cannot keep keys and values as `{kv_type}`; use `f16` or `f32`")]
    KvType {
        /// The type asked for.
        kv_type: KvType,
        /// The device asked for.
        device: ComputeDevice,
    },
    /// A driver that does not answer.
    #[error(
        "NVIDIA's driver answers {call} with error {code} ({name}); does `nvidia-smi` list a GPU?"
    )]
    Driver {
        /// Which function of the driver.
        call: &'static str,
        /// What it returned.
        code: i32,
        /// What the driver calls that.
        name: String,
    },
    /// A GPU that is not there.
    #[error("there is no `cuda:{index}`: the driver knows {count} GPUs, numbered from 0")]
    NoSuchGpu {
        /// Number of the GPU.
        index: usize,
        /// GPUs there are.
        count: usize,
    },
}

impl ComputeDevice {
    /// Checks that the device is there, that this program can use it, and that it keeps keys and values
    /// so.
    ///
    /// # Errors
    ///
    /// Says what is missing.
    pub fn check(self, kv_type: KvType) -> Result<(), DeviceError> {
        if self != Self::Cpu && kv_type == KvType::Int8 {
            return Err(DeviceError::KvType { kv_type, device: self });
        }
        self.memory().map(|_| ())
    }

    /// Memory of the device; `None` if it is that of the machine.
    ///
    /// # Errors
    ///
    /// If the device cannot be used.
    pub fn memory(self) -> Result<Option<Bytes>, DeviceError> {
        match self {
            Self::Cpu | Self::Burn => Ok(None),
            #[cfg(feature = "cuda")]
            Self::Cube => Ok(None),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => cuda::memory(index).map(Some),
            #[cfg(not(feature = "cuda"))]
            Self::Cube | Self::Cuda(_) => Err(DeviceError::NotBuilt),
        }
    }

    /// Bytes that a matrix takes on the device.
    pub(crate) fn matrix_bytes(
        self,
        stored: Stored,
        inputs: usize,
        outputs: usize,
        precision: Precision,
    ) -> usize {
        let codes = Layout::of(stored).filter(|_| precision == Precision::Stored);
        match (self, codes, precision) {
            (Self::Cpu, ..) => Matrix::size(stored, inputs, outputs, precision),
            (Self::Cube | Self::Cuda(_), Some(layout), _) => layout.bytes(inputs * outputs),
            (Self::Cuda(_), None, Precision::Stored) => inputs * outputs * size_of::<u16>(),
            _ => inputs * outputs * size_of::<f32>(),
        }
    }
}

impl FromStr for ComputeDevice {
    type Err = UnknownDevice;

    fn from_str(word: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(word.to_owned());
        match word {
            "cpu" => Ok(Self::Cpu),
            "burn" => Ok(Self::Burn),
            "cube" => Ok(Self::Cube),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = word.strip_prefix("cuda:").ok_or_else(unknown)?;
                let digits = number.bytes().all(|it| it.is_ascii_digit());
                number.parse().ok().filter(|_| digits).map(Self::Cuda).ok_or_else(unknown)
            }
        }
    }
}

impl TryFrom<String> for ComputeDevice {
    type Error = UnknownDevice;

    fn try_from(word: String) -> Result<Self, UnknownDevice> {
        word.parse()
    }
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Burn => f.write_str("burn"),
            Self::Cube => f.write_str("cube"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_devices_or_refused() {
        let references = [ComputeDevice::Burn, ComputeDevice::Cube];
        for device in references.into_iter().chain([ComputeDevice::Cpu, ComputeDevice::Cuda(12)]) {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(ComputeDevice::Cuda(0)));
        for word in ["gpu", "cuda:", "cuda:+1", "cuda:-1", "cuda:99999999999999999999"] {
            let error = word.parse::<ComputeDevice>().expect_err("there is no such device");
            let message = format!(
                "`{word}` is no device; there are `cpu`, `cuda`, `cuda:N` for GPU number N, and to check \
                 these `burn` and `cube`"
            );
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_program_without_cuda_says_how_to_build_one_with_it() {
        for device in [ComputeDevice::Cuda(0), ComputeDevice::Cube] {
            let error = device.check(KvType::F16).expect_err("not built");
            let message = "this binary was built without CUDA; build it with ./x cuda";
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    #[cfg(feature = "cuda")]
    fn a_gpu_that_is_not_there_is_an_error_with_or_without_a_driver() {
        assert!(ComputeDevice::Cuda(99_999).check(KvType::F16).is_err());
    }

    #[test]
    fn codes_of_keys_and_values_are_refused_where_burn_computes() {
        assert_eq!(ComputeDevice::Cpu.check(KvType::Int8), Ok(()));
        assert_eq!(ComputeDevice::Burn.check(KvType::F16), Ok(()));
        let error = ComputeDevice::Burn.check(KvType::Int8).expect_err("no operations");
        let message = "`burn` cannot keep keys and values as `int8`; use `f16` or `f32`";
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn quantised_matrices_are_expanded_by_burn_alone() {
        let bytes = |device: ComputeDevice, stored, precision| {
            device.matrix_bytes(stored, 256, 32, precision)
        };
        let stored = Precision::Stored;
        for device in [ComputeDevice::Cuda(0), ComputeDevice::Cube] {
            let bits = |of| bytes(device, of, stored) as f64 / (256.0 * 32.0 / 8.0);
            assert_eq!(bits(Stored::Q4_0), 4.5);
            assert_eq!([Stored::Q4_1, Stored::Q4K].map(bits), [5.0; 2]);
            assert_eq!([Stored::Q8_0, Stored::Q5_0].map(bits), [8.5; 2]);
            assert_eq!([Stored::Q5_1, Stored::Q5K, Stored::Q6K].map(bits), [9.0; 3]);
            assert_eq!(bytes(device, Stored::Q4_0, Precision::F32), 4 * 256 * 32);
        }
        assert_eq!(bytes(ComputeDevice::Cuda(0), Stored::F32, stored), 2 * 256 * 32);
        assert_eq!(bytes(ComputeDevice::Burn, Stored::Q4_0, stored), 4 * 256 * 32);
        assert!(bytes(ComputeDevice::Cpu, Stored::Q4_0, stored) < 256 * 32);
    }
}
