//! Asks NVIDIA's driver which GPUs there are, before burn does: burn panics in a thread of its own if
//! there is no driver.

// JUSTIFICATION: the driver has no other interface, and a program that is linked to its library does not
// start without it.
#![expect(unsafe_code)]

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr;

use libloading::Library;
use thalweg_wire::Bytes;

use super::DeviceError;

/// Names of the driver's library.
const LIBRARIES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];
/// What the driver returns where nothing went wrong.
const SUCCESS: c_int = 0;

type Init = unsafe extern "C" fn(c_uint) -> c_int;
type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type TotalMemory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
type ErrorName = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;

/// Memory of the GPU number `index`.
///
/// # Errors
///
/// If there is no driver, it does not answer, or there is no such GPU.
pub(super) fn memory(index: usize) -> Result<Bytes, DeviceError> {
    let driver = Driver::open()?;
    let init: Init = driver.function(c"cuInit")?;
    // SAFETY: `cuInit` takes flags, of which there are none, and may be called at any time.
    driver.check("cuInit", unsafe { init(0) })?;
    let count = driver.count()?;
    if index >= count {
        return Err(DeviceError::NoSuchGpu { index, count });
    }
    let get: Get = driver.function(c"cuDeviceGet")?;
    let total: TotalMemory = driver.function(c"cuDeviceTotalMem_v2")?;
    let (mut device, mut bytes) = (0, 0);
    // SAFETY: the pointer is to an integer of the type that the call writes; `index` is below a count
    // that the driver gave as a `c_int`.
    driver.check("cuDeviceGet", unsafe { get(&raw mut device, index as c_int) })?;
    // SAFETY: the pointer is to a `size_t`, and `device` comes from `cuDeviceGet`.
    driver.check("cuDeviceTotalMem", unsafe { total(&raw mut bytes, device) })?;
    Ok(Bytes(bytes as u64))
}

/// What the system says of a library that does not load.
fn cause(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The driver's library.
struct Driver(Library);

impl Driver {
    fn open() -> Result<Self, DeviceError> {
        let mut reason = String::new();
        for name in LIBRARIES {
            // SAFETY: the library is NVIDIA's; loading it runs only its own initialisers.
            match unsafe { Library::new(name) } {
                Ok(library) => return Ok(Self(library)),
                Err(error) if reason.is_empty() => reason = cause(&error),
                Err(_) => {}
            }
        }
        Err(DeviceError::NoDriver(reason))
    }

    /// A function of the library, of the type that NVIDIA documents for it.
    fn function<T: Copy>(&self, name: &CStr) -> Result<T, DeviceError> {
        // SAFETY: callers name types as in `cuda.h`; the library stays loaded while it is called.
        let symbol = unsafe { self.0.get::<T>(name) };
        symbol.map(|it| *it).map_err(|error| DeviceError::NoDriver(cause(&error)))
    }

    fn count(&self) -> Result<usize, DeviceError> {
        let count: Count = self.function(c"cuDeviceGetCount")?;
        let mut found = 0;
        // SAFETY: the pointer is to an integer of the type that the call writes.
        self.check("cuDeviceGetCount", unsafe { count(&raw mut found) })?;
        Ok(usize::try_from(found).unwrap_or(0))
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<(), DeviceError> {
        if code == SUCCESS {
            return Ok(());
        }
        Err(DeviceError::Driver { call, code, name: self.name(code) })
    }

    /// What the driver calls an error.
    fn name(&self, code: c_int) -> String {
        let mut name: *const c_char = ptr::null();
        if let Ok(function) = self.function::<ErrorName>(c"cuGetErrorName") {
            // SAFETY: the pointer is to a pointer, which the call leaves or sets to null, or to a string.
            unsafe { function(code, &raw mut name) };
        }
        if name.is_null() {
            return "unknown".to_owned();
        }
        // SAFETY: the string is the driver's, ends in zero and is never freed.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}
