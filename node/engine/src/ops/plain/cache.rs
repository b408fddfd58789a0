//! Keys and values in tensors, in blocks that requests own by table.
//!
//! ```text
//! one row per block:  [token][kv head][dimension]
//! ```
//!
//! A token is one row of a view of the same tensor, so that appending writes whole rows, and attention
//! gathers whole blocks. Both tensors are set aside at once, and burn changes them in place as long
//! as nobody else holds them.

use burn::tensor::{DType, Device, Element, IndexingUpdateOp, Int, Tensor, TensorData, f16};

use super::indices;
use crate::attention::Span;
use crate::kv::{BLOCK_TOKENS, BlockFormat, KvBlocksError, KvType, LANES, Slot};
use crate::ops::Rows;

/// Keys and values of a shard's layers.
#[derive(Debug)]
pub(crate) struct Cache {
    format: BlockFormat,
    keys: Tensor<2>,
    values: Tensor<2>,
}

impl Cache {
    /// Sets aside `blocks` blocks of so many heads of some values.
    pub(super) fn new(
        kind: KvType,
        blocks: usize,
        (kv_heads, head_size): (usize, usize),
        device: &Device,
    ) -> Self {
        let dtype = match kind {
            KvType::F32 => DType::F32,
            KvType::F16 => DType::F16,
            KvType::Int8 => unreachable!("refused before anything is loaded"),
        };
        let shape = [blocks, BLOCK_TOKENS * kv_heads * head_size];
        let [keys, values] = [(); 2].map(|()| Tensor::zeros(shape, (device, dtype)));
        Self { format: BlockFormat { kind, kv_heads, head_size }, keys, values }
    }

    /// Heads of keys, and values of a head.
    pub(in crate::ops) fn heads(&self) -> (usize, usize) {
        (self.format.kv_heads, self.format.head_size)
    }

    /// Type of keys and values.
    #[cfg(feature = "cuda")]
    pub(in crate::ops) fn kind(&self) -> KvType {
        self.format.kind
    }

    /// Keys and values, a row for each block. Who writes to them must be alone with the cache.
    #[cfg(feature = "cuda")]
    pub(in crate::ops) fn tensors(&self) -> [&Tensor<2>; 2] {
        [&self.keys, &self.values]
    }

    /// Stores a key and a value of all heads for each row.
    pub(super) fn append(&mut self, spans: &[Span<'_>], keys: Rows, values: Rows) {
        let slots = indices(spans.iter().flat_map(slots), &keys.device());
        for (all, rows) in [(&mut self.keys, keys), (&mut self.values, values)] {
            let ([blocks, width], dtype) = (all.dims(), all.dtype());
            all.inplace(|it| {
                let tokens = it.reshape([blocks * BLOCK_TOKENS, width / BLOCK_TOKENS]);
                let rows = rows.cast(dtype);
                let tokens = tokens.select_assign(0, slots.clone(), rows, IndexingUpdateOp::Assign);
                tokens.reshape([blocks, width])
            });
        }
    }

    /// Keys and values of some blocks, `[requests, tokens, kv heads, head size]` in F32; each request
    /// has the same number of blocks.
    pub(super) fn gather(&self, blocks: &Tensor<1, Int>, requests: usize) -> [Tensor<4>; 2] {
        let tokens = blocks.dims()[0] / requests * BLOCK_TOKENS;
        let (kv_heads, head_size) = self.heads();
        [&self.keys, &self.values].map(|all| {
            let rows = all.clone().select(0, blocks.clone());
            rows.reshape([requests, tokens, kv_heads, head_size]).cast(DType::F32)
        })
    }

    /// Overwrites blocks with rows for each.
    fn put(&mut self, blocks: &[u32], [keys, values]: [Tensor<2>; 2]) {
        let blocks = indices(blocks.iter().map(|&it| it as usize), &keys.device());
        let assign = IndexingUpdateOp::Assign;
        self.keys.inplace(|it| it.select_assign(0, blocks.clone(), keys, assign));
        self.values.inplace(|it| it.select_assign(0, blocks, values, assign));
    }

    fn take(&self, blocks: &[u32]) -> [Tensor<2>; 2] {
        let blocks = indices(blocks.iter().map(|&it| it as usize), &self.keys.device());
        [&self.keys, &self.values].map(|it| it.clone().select(0, blocks.clone()))
    }

    /// Appends rows to exported bytes, in the order of the format.
    fn write<T: Element, const BYTES: usize>(
        &self,
        blocks: &[u32],
        bytes: &mut Vec<u8>,
        to: impl Fn(T) -> [u8; BYTES],
    ) {
        let order = Order::of(self.format);
        let rows = self.take(blocks).map(|it| {
            let values: Vec<T> = it.into_data().try_into_vec().expect("blocks are of this type");
            values
        });
        for block in 0..blocks.len() {
            for (rows, (places, values)) in rows.iter().zip([&order.keys, &order.values]) {
                let mut lines = vec![[0; BYTES]; *values];
                let row = &rows[block * places.len()..][..places.len()];
                row.iter().zip(places).for_each(|(&it, &at)| lines[at] = to(it));
                bytes.extend_from_slice(lines.as_flattened());
            }
        }
    }

    /// Rows of exported bytes, which have the size of so many blocks.
    fn read<T: Element, const BYTES: usize>(
        &self,
        blocks: usize,
        bytes: &[u8],
        from: impl Fn([u8; BYTES]) -> T,
    ) -> [Tensor<2>; 2] {
        let order = Order::of(self.format);
        let mut rest = bytes.as_chunks::<BYTES>().0;
        let (mut rows, mut width) = ([Vec::new(), Vec::new()], 0);
        for _ in 0..blocks {
            for (rows, (places, values)) in rows.iter_mut().zip([&order.keys, &order.values]) {
                let (lines, after) = rest.split_at(*values);
                rows.extend(places.iter().map(|&at| from(lines[at])));
                (rest, width) = (after, places.len());
            }
        }
        let to = (&self.keys.device(), self.keys.dtype());
        rows.map(|it| Tensor::from_data(TensorData::new(it, [blocks, width]), to))
    }
}

impl crate::ops::Cache for Cache {
    fn copy(&mut self, from: u32, to: u32) {
        let rows = self.take(&[from]);
        self.put(&[to], rows);
    }

    fn export(&self, blocks: &[u32]) -> Vec<u8> {
        let mut bytes = self.format.header(blocks.len() as u32).to_vec();
        match self.format.kind {
            _ if blocks.is_empty() => {}
            KvType::F32 => self.write(blocks, &mut bytes, f32::to_le_bytes),
            _ => self.write(blocks, &mut bytes, f16::to_le_bytes),
        }
        bytes
    }

    fn import(&mut self, blocks: &[u32], bytes: &[u8]) -> Result<(), KvBlocksError> {
        let lines = self.format.open(blocks.len(), bytes)?;
        if blocks.is_empty() {
            return Ok(());
        }
        let rows = match self.format.kind {
            KvType::F32 => self.read(blocks.len(), lines, f32::from_le_bytes),
            _ => self.read(blocks.len(), lines, f16::from_le_bytes),
        };
        self.put(blocks, rows);
        Ok(())
    }
}

/// The slot of each row, by its number.
pub(in crate::ops) fn slots(span: &Span<'_>) -> impl Iterator<Item = usize> {
    span.slots().map(Slot::number)
}

/// Where the values of a block's row lie among its exported lines, and how many values these have.
struct Order {
    keys: (Vec<usize>, usize),
    values: (Vec<usize>, usize),
}

impl Order {
    fn of(format: BlockFormat) -> Self {
        let (BlockFormat { kv_heads, head_size, .. }, (key_lines, value_lines)) =
            (format, format.lines());
        let all = |place: &dyn Fn(usize, usize, usize) -> usize| {
            let heads =
                (0..BLOCK_TOKENS).flat_map(|token| (0..kv_heads).map(move |it| (token, it)));
            let values =
                heads.flat_map(|(token, head)| (0..head_size).map(move |it| (token, head, it)));
            values.map(|(token, head, dimension)| place(token, head, dimension)).collect()
        };
        let key = |token, head, dimension| (head * key_lines + dimension) * LANES + token;
        let value = |token, head, dimension| {
            let line = dimension / LANES * BLOCK_TOKENS + token;
            (head * value_lines + line) * LANES + dimension % LANES
        };
        let [keys, values] = [key_lines, value_lines].map(|it| kv_heads * it * LANES);
        Self { keys: (all(&key), keys), values: (all(&value), values) }
    }
}
