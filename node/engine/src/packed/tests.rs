use std::marker::PhantomData;

use half::f16 as Half;

use super::activations::Block;
use super::product::Portable;
use super::*;
use crate::matrix::{Matrix, ROWS_OF_ITS_OWN, multiply};
use crate::simd::dispatch;
use crate::workers::Workers;

/// All types but the floats.
const ALL: &[Stored] = Stored::ALL.split_at(3).1;

/// Random stored weights of a shape, all finite.
struct Weights {
    stored: Stored,
    inputs: usize,
    outputs: usize,
    bytes: Vec<u8>,
}

impl Weights {
    fn random(stored: Stored, inputs: usize, outputs: usize, random: &mut fastrand::Rng) -> Self {
        let size = stored.bytes_of(inputs * outputs).expect("small");
        let mut bytes: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
        let halves: &[usize] = match stored {
            Stored::Q4_0 | Stored::Q5_0 | Stored::Q8_0 => &[0],
            Stored::Q6K => &[208],
            _ => &[0, 2],
        };
        for block in bytes.chunks_exact_mut(stored.block_bytes()) {
            for &at in halves {
                let value = Half::from_f32(random.f32() - 0.5);
                block[at..at + 2].copy_from_slice(&value.to_le_bytes());
            }
        }
        Self { stored, inputs, outputs, bytes }
    }

    fn row(&self, output: usize) -> &[u8] {
        let bytes = self.bytes.len() / self.outputs;
        &self.bytes[output * bytes..][..bytes]
    }

    fn values(&self, output: usize) -> Vec<f32> {
        let mut values = vec![0.0; self.inputs];
        self.stored.expand(self.row(output), &mut values).expect("whole blocks");
        values
    }

    fn pack(&self) -> Panels {
        let workers = Workers::new(2).expect("threads start");
        let row = |it| self.row(it);
        let packed = Panels::pack(self.stored, self.inputs, self.outputs, row, &workers);
        packed.expect("scales are finite")
    }
}

fn rows(count: usize, random: &mut fastrand::Rng) -> Vec<f32> {
    (0..count).map(|_| random.f32() * 2.0 - 1.0).collect()
}

/// Inputs and outputs to try: whole units of every type, partly filled panels.
const SHAPES: [(usize, usize); 4] = [(256, 1), (256, 31), (512, 9), (768, 16)];

#[test]
fn packed_rows_are_the_rows_of_the_file() {
    let mut random = fastrand::Rng::with_seed(1);
    for &stored in ALL {
        for (inputs, outputs) in SHAPES {
            let weights = Weights::random(stored, inputs, outputs, &mut random);
            let panels = weights.pack();
            for output in 0..outputs {
                assert_eq!(panels.row(output), weights.values(output), "{stored}, row {output}");
            }
        }
    }
}

#[test]
fn packed_weights_are_at_most_three_percent_larger_than_in_the_file() {
    for &stored in ALL {
        let layout = layout_of(stored).expect("quantised");
        let file = PANEL * stored.bytes_of(layout.unit_inputs()).expect("small");
        assert!(layout.unit_bytes() * 100 <= file * 103, "{stored}: {}", layout.unit_bytes());
    }
}

fn rounded(x: &[f32], inputs: usize) -> Activations {
    Activations::new(x, inputs, &Workers::new(1).expect("no thread"))
}

fn product(matrix: &Matrix, x: &[f32], workers: &Workers) -> Vec<f32> {
    let [product] = multiply([matrix], x, workers);
    product
}

/// The product in plain loops and with every set of instructions this machine has.
fn with_all_sets<F: Format>(panels: &Panels, x: &[f32]) -> Vec<(&'static str, Vec<f32>)> {
    let activations = &rounded(x, panels.inputs);
    let filled = |run: &dyn Fn(Product<'_>)| {
        let mut out = vec![0.0; x.len() / panels.inputs * panels.outputs];
        let area = Area::new(&mut out, panels.outputs);
        run(Product { panels: panels.panels_from(0), activations, first_row: 0, out: area });
        out
    };
    let plain = filled(&|product| dispatch(Portable(product, PhantomData::<F>)));
    let mut all = vec![("plain loops", plain)];
    #[cfg(target_arch = "x86_64")]
    for (name, run) in x86::all::<F>() {
        all.extend(run.map(|run| (name, filled(&|product| run(product)))));
    }
    all
}

fn with_all_sets_as_stored(panels: &Panels, x: &[f32]) -> Vec<(&'static str, Vec<f32>)> {
    with_format!(
        panels.stored,
        Type => with_all_sets::<Type>(panels, x),
        floats => unreachable!("floats are not packed here")
    )
}

#[test]
fn all_instructions_give_the_bits_of_plain_loops() {
    let mut random = fastrand::Rng::with_seed(2);
    for &stored in ALL {
        for (inputs, outputs) in SHAPES {
            let panels = Weights::random(stored, inputs, outputs, &mut random).pack();
            for count in [1, 2, 3, 4, 5, 67] {
                let x = rows(count * inputs, &mut random);
                let all = with_all_sets_as_stored(&panels, &x);
                for (name, found) in &all[1..] {
                    assert_eq!(found, &all[0].1, "{stored}, {count} rows, {name}");
                }
            }
        }
    }
}

#[test]
fn the_largest_codes_and_activations_do_not_overflow() {
    for &stored in ALL {
        let mut weights = Weights::random(stored, 256, 8, &mut fastrand::Rng::with_seed(3));
        for fill in [0x00, 0x7F, 0x80, 0xFF] {
            let one = Half::from_f32(1.0).to_le_bytes();
            for block in weights.bytes.chunks_exact_mut(stored.block_bytes()) {
                block.fill(fill);
                match stored {
                    Stored::Q4_0 | Stored::Q5_0 | Stored::Q8_0 => block[..2].copy_from_slice(&one),
                    Stored::Q6K => block[208..].copy_from_slice(&one),
                    _ => block[..4].copy_from_slice(&[one, one].concat()),
                }
            }
            let panels = weights.pack();
            for sign in [1.0, -1.0] {
                let x = [sign; 256];
                let exact: f64 = panels.row(0).iter().map(|&it| f64::from(it * sign)).sum();
                for (name, found) in with_all_sets_as_stored(&panels, &x) {
                    let error = (f64::from(found[0]) - exact).abs();
                    let size = panels.row(0).iter().map(|it| f64::from(it.abs())).sum::<f64>();
                    assert!(error <= 1e-4 * (1.0 + size), "{stored} {fill} {name}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn product_matches_the_definition_on_rounded_activations() {
    let mut random = fastrand::Rng::with_seed(4);
    for &stored in ALL {
        let weights = Weights::random(stored, 512, 19, &mut random);
        let x = rows(512, &mut random);
        let matrix = Matrix::Packed(weights.pack());
        let found = product(&matrix, &x, &Workers::new(1).expect("no thread"));
        let activations = rounded(&x, 512);
        let (blocks, _) = activations.tiles(0, 1).next().expect("one row is one tile");
        let values = |it: &Block| it.codes.map(|code| f64::from(code) * f64::from(it.scale));
        let rounded: Vec<f64> = blocks.iter().flat_map(values).collect();
        assert_eq!(found.len(), 19);
        for (output, found) in found.into_iter().enumerate() {
            let row = weights.values(output);
            let products = rounded.iter().zip(row).map(|(x, weight)| x * f64::from(weight));
            let (exact, size) =
                products.fold((0.0, 0.0), |(sum, size), it| (sum + it, size + it.abs()));
            assert!((f64::from(found) - exact).abs() < 1e-5 * size, "{stored}: {found}, {exact}");
        }
    }
}

#[test]
fn rows_alone_give_the_bits_of_rows_together() {
    let mut random = fastrand::Rng::with_seed(5);
    let workers = [1, 2, 3].map(|it| Workers::new(it).expect("threads start"));
    for &stored in ALL {
        let matrix = Matrix::Packed(Weights::random(stored, 512, 530, &mut random).pack());
        // The last is enough for each of three threads to take rows of its own.
        for count in [0, 1, 2, 6, 13, ROWS_OF_ITS_OWN * 3 + 1] {
            let x = rows(count * 512, &mut random);
            let alone: Vec<f32> =
                x.chunks(512).flat_map(|it| product(&matrix, it, &workers[0])).collect();
            for workers in &workers {
                assert_eq!(product(&matrix, &x, workers), alone, "{stored}, {count} rows");
            }
        }
    }
}

#[test]
fn activations_round_to_the_nearest_code() {
    let x = rows(640, &mut fastrand::Rng::with_seed(6));
    let activations = rounded(&x, 320);
    for (tile, rows) in activations.tiles(0, 2) {
        for (at, block) in tile.iter().enumerate() {
            let first = (at % rows * 10 + at / rows) * 32;
            for (code, value) in block.codes.iter().zip(&x[first..first + 32]) {
                let error = (f32::from(*code) * block.scale - value).abs();
                assert!(error <= block.scale * 0.501, "{value} became {code}");
            }
            let sum: i32 = block.codes.iter().map(|&it| i32::from(it)).sum();
            let halves = block.half_sums.map(i32::from);
            assert_eq!((block.sum, halves[0] + halves[1]), (sum, sum));
            assert_eq!(block.codes.iter().map(|it| it.unsigned_abs()).max(), Some(127));
        }
    }
}

#[test]
fn nothing_and_next_to_nothing_round_to_zero() {
    for value in [0.0, -0.0, f32::from_bits(1), -1e-37] {
        let activations = rounded(&[value; 32], 32);
        let (blocks, _) = activations.tiles(0, 1).next().expect("one tile");
        assert_eq!((blocks[0].scale, blocks[0].codes), (0.0, [0; 32]));
    }
}

#[test]
fn what_is_no_number_stays_no_number_and_in_its_row() {
    let workers = Workers::new(1).expect("no thread");
    let mut random = fastrand::Rng::with_seed(7);
    for &stored in ALL {
        let matrix = Matrix::Packed(Weights::random(stored, 256, 20, &mut random).pack());
        let good = rows(256 * 3, &mut random);
        let expected = product(&matrix, &good, &workers);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = good.clone();
            x[256 + 77] = bad;
            let found = product(&matrix, &x, &workers);
            assert!(found[20..40].iter().all(|it| it.is_nan()), "{stored}, {bad}");
            assert_eq!((&found[..20], &found[40..]), (&expected[..20], &expected[40..]));
        }
    }
}

#[test]
fn a_scale_that_is_no_number_is_found() {
    for &stored in ALL {
        let mut weights = Weights::random(stored, 256, 12, &mut fastrand::Rng::with_seed(8));
        let row = weights.bytes.len() / 12;
        let at = if stored == Stored::Q6K { 208 } else { 0 };
        weights.bytes[9 * row + at..][..2].copy_from_slice(&Half::INFINITY.to_le_bytes());
        let workers = Workers::new(1).expect("no thread");
        let packed = Panels::pack(stored, 256, 12, |it| weights.row(it), &workers);
        assert_eq!(packed.expect_err("a scale is infinite"), BadScale { output: 9 });
    }
}

#[test]
fn rows_that_are_not_whole_units_are_not_packed() {
    assert!(Panels::takes(Stored::Q4_1, 96) && !Panels::takes(Stored::Q4_1, 80));
    assert!(Panels::takes(Stored::Q6K, 512) && !Panels::takes(Stored::Q6K, 96));
    assert!(!Panels::takes(Stored::F16, 256));
}
