//! Matrices that several threads fill at the same time, each a part of its own.

use std::marker::PhantomData;
use std::slice;

/// Some rows and columns of a row-major matrix. The parts of a matrix never overlap.
pub(crate) struct Area<'a> {
    first: *mut f32,
    /// Distance from one row to the next.
    step: usize,
    rows: usize,
    columns: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// JUSTIFICATION: threads take columns of the same rows, which no safe slice can express; filling parts
// of their own and putting them together afterwards costs a tenth of a step.
// SAFETY: an area is the only way to its values, as a mutable slice would be.
#[expect(unsafe_code)]
unsafe impl Send for Area<'_> {}

impl<'a> Area<'a> {
    /// All of a matrix with rows of `columns` values.
    pub(crate) fn new(matrix: &'a mut [f32], columns: usize) -> Self {
        assert!(columns > 0 && matrix.len().is_multiple_of(columns), "a matrix is whole rows");
        let (rows, first) = (matrix.len() / columns, matrix.as_mut_ptr());
        Self { first, step: columns, rows, columns, matrix: PhantomData }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The values of one row.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: row and columns are inside the matrix that was borrowed for 'a, and belong to this
        // area alone; the slice borrows it.
        #[expect(unsafe_code)]
        unsafe {
            slice::from_raw_parts_mut(self.first.add(row * self.step), self.columns)
        }
    }

    /// Cuts into runs of `count` rows.
    pub(crate) fn split_rows(self, count: usize) -> impl Iterator<Item = Self> {
        (0..self.rows).step_by(count).map(move |row| {
            let rows = count.min(self.rows - row);
            Self { first: self.first.wrapping_add(row * self.step), rows, ..self }
        })
    }

    /// Cuts into runs of `count` columns.
    pub(crate) fn split_columns(self, count: usize) -> impl Iterator<Item = Self> {
        (0..self.columns).step_by(count).map(move |column| {
            let columns = count.min(self.columns - column);
            Self { first: self.first.wrapping_add(column), columns, ..self }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_matrix_once() {
        for (rows, columns) in [(1, 1), (3, 7), (8, 16)] {
            let mut matrix = vec![0.0; rows * columns];
            let halves = Area::new(&mut matrix, columns).split_rows(2);
            let mut parts: Vec<Area<'_>> = halves.flat_map(|it| it.split_columns(5)).collect();
            for part in &mut parts {
                for row in 0..part.rows() {
                    part.row(row).iter_mut().for_each(|it| *it += 1.0);
                }
            }
            assert!(matrix.iter().all(|&it| it == 1.0), "{matrix:?}");
        }
    }

    #[test]
    #[should_panic(expected = "row 2 of 2")]
    fn rows_of_others_are_out_of_reach() {
        let mut matrix = [0.0; 8];
        let mut parts = Area::new(&mut matrix, 2).split_rows(2);
        parts.next().expect("there are two").row(2);
    }
}
