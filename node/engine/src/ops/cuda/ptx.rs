//! What LLVM makes of our kernels for NVIDIA's GPUs: the code that such a GPU would load, without one.

use std::sync::Arc;

use burn::tensor::{bf16, f16};
use burn_cubecl::cubecl::ir::features::Features;
use burn_cubecl::cubecl::ir::nvidia::SmArch;
use burn_cubecl::cubecl::ir::{
    AddressType, DeviceIdentity, DeviceProperties, HardwareProperties, MemoryDeviceProperties,
    TargetProperties, VectorSize,
};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::profile::TimingMethod;
use burn_cubecl::cubecl::{Compiler, CubeKernel};
use cubecl_llvm::nvptx::ptx_version::PtxVersion;
use cubecl_llvm::{LlvmTarget, PlironArtifact, PlironCompiler, PlironOptions};

use super::kernels::append::{Heads, turn_and_append};
use super::kernels::attend::{Cut, attend_to_part, join_parts};
use super::kernels::expand::expand_rows;
use super::kernels::gate::gate;
use super::kernels::multiply::{self, multiply_few};
use super::kernels::norm::norm;
use crate::device::Layout;
use crate::gate::Activation;
use crate::quant::Stored;

const LANES: usize = 32;
const PLANES: usize = 4;
/// Shared memory that every cube of a GPU may have.
const SHARED_BYTES_MAX: usize = 48 << 10;
/// Generations of GPUs: Ampere and Hopper.
const GENERATIONS: [u32; 2] = [80, 90];

fn gpu() -> Arc<DeviceProperties> {
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: LANES as u32,
        plane_size_max: LANES as u32,
        max_bindings: 32,
        max_shared_memory_size: SHARED_BYTES_MAX,
        max_cube_count: (i32::MAX as u32, 65_535, 65_535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: VectorSize::MAX,
        cube_mma_reserved_shared_memory: 0,
    };
    let name = "none".to_owned();
    let identity = DeviceIdentity { name: name.clone(), fingerprint: name, physical: None };
    let memory = MemoryDeviceProperties::new(u64::MAX, 256);
    Arc::new(DeviceProperties::new(
        Features::default(),
        memory,
        hardware,
        TimingMethod::Device,
        identity,
    ))
}

fn settings() -> KernelSettings {
    let dim = CubeDim::new_2d(LANES as u32, PLANES as u32);
    KernelSettings::new(*dim, ExecutionMode::Checked, AddressType::U64)
}

fn target() -> Arc<TargetProperties> {
    Arc::new(TargetProperties::default())
}

fn buffer() -> BufferCompilationArg {
    BufferCompilationArg { inplace: None }
}

/// Compiles a kernel for all generations, and checks that it keeps everything in registers and in the
/// shared memory that there is.
fn compile<K: CubeKernel>(kernel: impl Fn() -> K) -> Vec<String> {
    let compile = |generation| {
        let mut compiler = PlironCompiler { target: LlvmTarget::Nvptx };
        let options = PlironOptions {
            sm_arch: Some(SmArch::new(generation, false)),
            ptx_version: PtxVersion::for_driver(12_080),
            ..Default::default()
        };
        let compiled = compiler.compile(kernel().define(), &options).expect("the kernel compiles");
        let PlironArtifact::NvptxCode(module) = compiled else { panic!("no code for GPUs") };
        assert!(module.shared_memory_size <= SHARED_BYTES_MAX, "{}", module.shared_memory_size);
        let text: String = module.ptx.iter().map(|it| char::from(it.cast_unsigned())).collect();
        assert!(!text.contains(".local"), "an array that is no register:\n{text}");
        text
    };
    GENERATIONS.map(compile).into()
}

#[test]
fn attention_loads_vectors_and_adds_them_up_within_teams() {
    for (vectors, share, team) in [(8, 4, 8), (16, 8, 16), (32, 4, 32), (5, 3, 1)] {
        let (heads, kv_heads) = (8 * share, 8);
        let (lanes, planes) = (LANES, PLANES);
        let cut = Cut { heads, kv_heads, vectors, vector: 8, share, lanes, planes, team };
        let kernel = || {
            let [a, b, c, d, e, f] = [(); 6].map(|()| buffer());
            attend_to_part::AttendToPart::<f16>::new(
                settings(),
                gpu(),
                target(),
                a,
                b,
                c,
                d,
                e,
                f,
                (),
                (),
                (),
                (),
                8,
                cut,
            )
        };
        for text in compile(kernel) {
            assert!(text.contains("ld.global.nc.v4"), "16 bytes at once:\n{text}");
            // Each score within its team; largest score and sum of the heads of a plane.
            let (steps, of_plane) = (team.ilog2(), share.div_ceil(PLANES));
            let shuffles = share * steps as usize + 2 * of_plane * LANES.ilog2() as usize;
            assert_eq!(text.matches("shfl.sync.bfly").count(), shuffles, "{text}");
        }
    }
}

#[test]
fn everything_else_compiles() {
    compile(|| {
        let [a, b, c, d] = [(); 4].map(|()| buffer());
        join_parts::JoinParts::new(
            settings(),
            gpu(),
            target(),
            a,
            b,
            c,
            d,
            (),
            (),
            (),
            (),
            8,
            32,
            8,
        )
    });
    compile(|| {
        let [a, b, c, d, e, f, g, h, i] = [(); 9].map(|()| buffer());
        let heads = Heads { queries: 32, keys: 8, size: 64 };
        let (gpu, target) = (gpu(), target());
        turn_and_append::TurnAndAppend::<f16>::new(
            settings(),
            gpu,
            target,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            i,
            (),
            (),
            (),
            heads,
        )
    });
    compile(|| {
        let [a, b, c] = [(); 3].map(|()| buffer());
        norm::Norm::new(settings(), gpu(), target(), a, b, c, (), (), (), LANES, PLANES)
    });
    for activation in [Activation::Silu, Activation::Gelu] {
        compile(|| {
            let [a, b, c] = [(); 3].map(|()| buffer());
            gate::Gate::new(settings(), gpu(), target(), a, b, c, (), activation)
        });
    }
}

#[test]
fn products_load_a_vector_of_codes_at_once() {
    let stored = [Stored::Q4_0, Stored::Q4K, Stored::Q8_0, Stored::Q6K];
    let layouts = stored.map(|it| Layout::of(it).expect("quantised"));
    for layout in layouts.into_iter().chain([16, 32].map(Layout::floats)) {
        for (rows, outputs) in [(1, 2), (2, 2), (4, 4), (8, 2)] {
            let cut = multiply::Cut { lanes: LANES, planes: PLANES, outputs, rows };
            let kernel = || {
                let [a, b, c, d] = [(); 4].map(|()| buffer());
                let (gpu, target, scales) = (gpu(), target(), layout.scales());
                multiply_few::MultiplyFew::new(
                    settings(),
                    gpu,
                    target,
                    a,
                    b,
                    c,
                    d,
                    (),
                    (),
                    (),
                    scales,
                    cut,
                    layout,
                )
            };
            for text in compile(kernel) {
                // Codes of each output, and activations of each row.
                let loads = text.matches("ld.global.nc.v4").count();
                assert_eq!(loads, outputs + rows * layout.in_vector() / 4, "{text}");
            }
        }
        compile(|| {
            let [a, b, c, d] = [(); 4].map(|()| buffer());
            let (gpu, target, scales) = (gpu(), target(), layout.scales());
            expand_rows::ExpandRows::<bf16>::new(
                settings(),
                gpu,
                target,
                a,
                b,
                c,
                d,
                (),
                (),
                (),
                scales,
                true,
                layout,
            )
        });
    }
}
