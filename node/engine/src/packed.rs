//! Quantised weights that stay quantised: panels of codes, and products with 8-bit activations.
//!
//! A decode step reads every weight once, so its time is the size of the weights. Codes are packed
//! again at load so that a product reads them as one stream ([`layout`]), and the activations are
//! rounded to 8 bits per block of 32, so that 32 products take one instruction ([`product`]).

mod activations;
mod layout;
mod product;
mod unit;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use activations::{Activations, TILE_ROWS};
use layout::{Format, Layout, PANEL, Unit};
use product::Product;

use crate::area::Area;
use crate::quant::Stored;
use crate::workers::Workers;

/// Panels begin at multiples of this many bytes: the size of a cache line.
const ALIGN: usize = 64;

/// Packing a weight takes as long as so many multiply-adds of a product.
const PACKING_WORK: usize = 64;

/// A matrix of quantised weights, `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct Panels {
    stored: Stored,
    layout: Layout,
    inputs: usize,
    outputs: usize,
    bytes: Vec<u8>,
    /// Where in `bytes` the first panel begins.
    start: usize,
}

/// Evaluates `$then` with `$format` as the format of a stored type, or `$floats`.
macro_rules! with_format {
    ($stored:expr, $format:ident => $then:expr, floats => $floats:expr) => {
        with_format!(@ $stored, $format, $then, $floats, Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4K Q5K Q6K)
    };
    (@ $stored:expr, $format:ident, $then:expr, $floats:expr, $($name:ident)*) => {
        match $stored {
            $(Stored::$name => {
                type $format = layout::$name;
                $then
            })*
            Stored::F32 | Stored::F16 | Stored::BF16 => $floats,
        }
    };
}

/// How weights of a type are packed, if they are quantised.
fn layout_of(stored: Stored) -> Option<Layout> {
    with_format!(stored, Type => Some(Type::LAYOUT), floats => None)
}

/// A scale that is no finite number, in the row of an output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BadScale {
    /// Number of the output.
    pub(crate) output: usize,
}

impl Panels {
    /// Whether weights of a type can be packed in rows of `inputs`.
    pub(crate) fn takes(stored: Stored, inputs: usize) -> bool {
        let layout = layout_of(stored);
        layout.is_some_and(|it| inputs > 0 && inputs.is_multiple_of(it.unit_inputs()))
    }

    /// Bytes that a packed matrix takes, if weights of this type [can be packed](Self::takes).
    pub(crate) fn size(stored: Stored, inputs: usize, outputs: usize) -> Option<usize> {
        let layout = layout_of(stored).filter(|_| Self::takes(stored, inputs))?;
        Some(outputs.div_ceil(PANEL) * (inputs / layout.unit_inputs()) * layout.unit_bytes())
    }

    /// Packs `outputs` rows of blocks as a file stores them; `row` returns that of an output.
    ///
    /// # Panics
    ///
    /// If weights of this type [cannot be packed](Self::takes), or a row has a wrong length.
    pub(crate) fn pack<'a>(
        stored: Stored,
        inputs: usize,
        outputs: usize,
        row: impl Fn(usize) -> &'a [u8] + Sync + Send,
        workers: &Workers,
    ) -> Result<Self, BadScale> {
        let layout = layout_of(stored).expect("caller asked whether the type can be packed");
        let units = inputs / layout.unit_inputs();
        let panel_bytes = units * layout.unit_bytes();
        let mut bytes = vec![0; outputs.div_ceil(PANEL) * panel_bytes + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        let panels = bytes[start..].chunks_exact_mut(panel_bytes).enumerate().collect();
        let packed = workers.each(panels, inputs * outputs * PACKING_WORK, |(index, panel)| {
            let mut unit = Unit::default();
            for lane in 0..PANEL.min(outputs.saturating_sub(index * PANEL)) {
                let output = index * PANEL + lane;
                let row = row(output);
                let stored_units = row.chunks_exact(row.len() / units);
                for (packed, bytes) in panel.chunks_exact_mut(layout.unit_bytes()).zip(stored_units)
                {
                    unit::read(stored, bytes, &mut unit);
                    if !unit.is_finite() {
                        return Err(BadScale { output });
                    }
                    layout.write(&unit, lane, packed);
                }
            }
            Ok(())
        });
        packed.into_iter().collect::<Result<(), _>>()?;
        Ok(Self { stored, layout, inputs, outputs, bytes, start })
    }

    /// Values of one row that comes out.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The weights of one output.
    pub(crate) fn row(&self, output: usize) -> Vec<f32> {
        assert!(output < self.outputs, "output {output} of {}", self.outputs);
        let panel = &self.panels_from(output / PANEL)[..self.panel_bytes()];
        let units = panel.chunks_exact(self.layout.unit_bytes());
        let values = |packed| {
            let unit = self.layout.read(packed, output % PANEL);
            self.layout.values(&unit).collect::<Vec<_>>()
        };
        units.flat_map(values).collect()
    }

    /// Values of one row that goes in.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Multiplies rows of activations, from `first_row` on, with the outputs from `first_output` on: whole
    /// tiles and panels.
    pub(crate) fn multiply(
        &self,
        activations: &Activations,
        first_row: usize,
        first_output: usize,
        out: Area<'_>,
    ) {
        let panels = self.panels_from(first_output / PANEL);
        let product = Product { panels, activations, first_row, out };
        with_format!(
            self.stored,
            Type => product.run::<Type>(),
            floats => unreachable!("floats are not packed here")
        );
    }

    fn panel_bytes(&self) -> usize {
        self.inputs / self.layout.unit_inputs() * self.layout.unit_bytes()
    }

    /// The packed bytes of this panel and all that follow.
    fn panels_from(&self, panel: usize) -> &[u8] {
        &self.bytes[self.start..][panel * self.panel_bytes()..]
    }
}

#[cfg(test)]
mod tests;
