//! Operations on rows of activations, and the only module of the models that knows burn.
//!
//! Activations are burn tensors on burn's CPU backend. Products with weights, attention and gates are
//! loops of our own ([`Matrix`], [`attention`](crate::attention), [`gate`]): burn's product of few
//! rows moves 2 to 5 GB/s where memory gives 10, and rounds differently for one row than for many;
//! its attention copies the cache at every step; its exponential is one call per value.

use burn::tensor::{Device, Tensor, TensorData};

use crate::gate::{self, Activation};
use crate::matrix::Matrix;
use crate::workers::Workers;

/// Activations: one row per token.
pub(crate) type Rows = Tensor<2>;

/// Where activations live.
pub(crate) fn device() -> Device {
    Device::flex()
}

/// Makes rows of `width` values.
pub(crate) fn rows(values: Vec<f32>, width: usize) -> Rows {
    let count = values.len() / width;
    Rows::from_data(TensorData::new(values, [count, width]), &device())
}

/// Takes the values out of rows.
pub(crate) fn values(rows: Rows) -> Vec<f32> {
    rows.try_into_vec_as().expect("activations are F32 on this machine")
}

/// `activation(gate) * up`, the gated unit of a feed-forward block.
pub(crate) fn gated(activation: Activation, gate: Rows, up: Rows) -> Rows {
    let [_, width] = gate.dims();
    rows(gate::gated(activation, values(gate), &values(up)), width)
}

/// Divides by the root mean square and multiplies by a weight per column.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Rows,
    eps: f32,
}

impl RmsNorm {
    /// Creates the norm of rows as wide as `weight`.
    pub(crate) fn new(weight: Vec<f32>, eps: f32) -> Self {
        let width = weight.len();
        Self { weight: rows(weight, width), eps }
    }

    /// Normalises each row.
    pub(crate) fn forward(&self, x: Rows) -> Rows {
        let mean_square = x.clone().square().mean_dim(1);
        x / mean_square.add_scalar(self.eps).sqrt() * self.weight.clone()
    }

    /// Normalises each head of each row by itself.
    pub(crate) fn forward_heads(&self, x: Rows) -> Rows {
        let [count, width] = x.dims();
        let [_, head] = self.weight.dims();
        self.forward(x.reshape([count * width / head, head])).reshape([count, width])
    }
}

/// A product with weights: `x W^T`.
#[derive(Debug)]
pub(crate) struct Linear(Matrix);

impl Linear {
    /// Creates the layer from packed weights.
    pub(crate) fn new(weights: Matrix) -> Self {
        Self(weights)
    }

    /// The weights.
    pub(crate) fn matrix(&self) -> &Matrix {
        &self.0
    }

    /// Multiplies each row.
    pub(crate) fn forward(&self, x: Rows, workers: &Workers) -> Rows {
        rows(self.0.multiply(&values(x), workers), self.0.outputs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(count: usize, width: usize) -> Rows {
        let mut random = fastrand::Rng::with_seed(1);
        rows((0..count * width).map(|_| random.f32() * 2.0 - 1.0).collect(), width)
    }

    fn assert_close(found: Rows, expected: Rows) {
        assert_eq!(found.dims(), expected.dims());
        for (found, expected) in values(found).iter().zip(values(expected)) {
            assert!((found - expected).abs() < 1e-5, "{found} against {expected}");
        }
    }

    #[test]
    fn linear_agrees_with_burns_own_product() {
        let workers = Workers::new(1).expect("no thread");
        let (x, weights) = (random(5, 48), random(70, 48));
        let linear = Linear::new(Matrix::of_f32(&values(weights.clone()), 48));
        assert_close(linear.forward(x.clone(), &workers), x.matmul(weights.transpose()));
    }

    #[test]
    fn gates_agree_with_burns_own() {
        let (gate, up) = (random(3, 40), random(3, 40));
        let expected = burn::tensor::activation::silu(gate.clone()) * up.clone();
        assert_close(gated(Activation::Silu, gate.clone(), up.clone()), expected);
        let expected = burn::tensor::activation::gelu_approximate(gate.clone()) * up.clone();
        assert_close(gated(Activation::Gelu, gate, up), expected);
    }

    #[test]
    fn norm_divides_by_the_root_mean_square() {
        let norm = RmsNorm::new(vec![1.0, 2.0], 0.0);
        assert_close(norm.forward(rows(vec![3.0, 4.0], 2)), rows(vec![0.848_528, 2.262_742], 2));
        let heads = norm.forward_heads(rows(vec![3.0, 4.0, 1.0, 1.0], 4));
        assert_close(heads, rows(vec![0.848_528, 2.262_742, 1.0, 2.0], 4));
    }

    #[test]
    fn rows_alone_give_the_bits_of_rows_together() {
        let norm = RmsNorm::new(vec![0.5; 100], 1e-5);
        let operations: [&dyn Fn(Rows) -> Rows; 3] =
            [&|x| norm.forward(x), &|x| gated(Activation::Silu, x.clone(), x), &|x| {
                gated(Activation::Gelu, x.clone(), x)
            }];
        let x = random(7, 100);
        for operation in operations {
            let together = values(operation(x.clone()));
            let alone: Vec<f32> = values(x.clone())
                .chunks(100)
                .flat_map(|it| values(operation(rows(it.to_vec(), 100))))
                .collect();
            assert_eq!(together, alone);
        }
    }
}
