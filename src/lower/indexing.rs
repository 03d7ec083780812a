//! Index arithmetic of fused code: from the coordinates that a hook is given to element indices.
//!
//! Part of the emitter in [`super::expression`]. Knows shapes and strides, not operations.

use super::access::Access;
use super::border::Walk;
use super::expression::{Emitter, Grid};
use crate::error::{Error, Result};
use crate::shape::{Shape, View, collapse};

impl Emitter<'_> {
    /// Strides of a view over the grid.
    pub(super) fn strides(&self, view: &View) -> Result<(Vec<usize>, usize)> {
        if view.shape.numel() == 1 {
            return Ok((vec![0; self.shape.rank()], view.offset));
        }
        let walked = view.reshape(&self.shape).ok_or_else(|| {
            Error::compile(
                "a fused kernel".into(),
                format!("cannot walk {:?} on {} (please report this)", view.strides, self.shape),
            )
        })?;
        let strides =
            walked.strides.iter().zip(self.shape.iter()).map(|(&stride, &size)| if size == 1 { 0 } else { stride });
        Ok((strides.collect(), walked.offset))
    }

    /// The stride along the axis in which the hook's lanes of a vector lie.
    pub(super) fn lane_stride(&self, strides: &[usize]) -> usize {
        let axis = match &self.grid {
            Grid::Linear | Grid::Store => (0..self.shape.rank()).rev().find(|&axis| self.shape[axis] != 1),
            Grid::Reduce { axes } => {
                (0..self.shape.rank()).rev().find(|axis| self.shape[*axis] != 1 && !axes.contains(axis))
            }
        };
        axis.map_or(0, |axis| strides[axis])
    }

    pub(super) fn is_whole(&self, strides: &[usize], offset: usize) -> bool {
        let wanted = self.shape.strides();
        offset == 0 && (0..self.shape.rank()).all(|axis| self.shape[axis] == 1 || strides[axis] == wanted[axis])
    }

    /// The element index (u32) of a read at the coordinates of the vector's first lane.
    pub(super) fn index(&mut self, access: &Access) -> Result<String> {
        let (strides, offset) = self.strides(&access.view)?;
        let walk = access.root.map(|root| self.context.views.walk(root)).unwrap_or_default();
        Ok(self.index_of(strides, offset, walk))
    }

    pub(super) fn index_of(&mut self, strides: Vec<usize>, offset: usize, walk: Walk) -> String {
        if matches!(self.grid, Grid::Linear) && self.is_whole(&strides, offset) && !walk.moves() {
            return "e".into();
        }
        let key = (strides, offset, walk);
        let known = self.indices.iter().position(|known| *known == key);
        let index = known.unwrap_or_else(|| {
            self.indices.push(key);
            self.indices.len() - 1
        });
        format!("j{index}")
    }

    /// The element indices of all lanes (`U`).
    pub(super) fn lane_index(&mut self, view: &View) -> Result<String> {
        let (strides, offset) = self.strides(view)?;
        let stride = self.lane_stride(&strides);
        let first = self.index_of(strides, offset, Walk::default());
        self.linear = false;
        Ok(match (self.width, stride) {
            (1, _) => first,
            (_, 0) => format!("U({first})"),
            (_, 1) => format!("(U({first}) + vec4<u32>(0u, 1u, 2u, 3u))"),
            (_, stride) => {
                let step = self.stride_param(&first, stride);
                format!("(U({first}) + {step} * vec4<u32>(0u, 1u, 2u, 3u))")
            }
        })
    }

    pub(super) fn stride_param(&mut self, index: &str, stride: usize) -> String {
        self.param(&format!("{index}_lane"), stride)
    }

    /// `let j0 = …;` for every index in use, over the fewest coordinates.
    pub(super) fn index_lines(&mut self) -> Vec<String> {
        let indices = std::mem::take(&mut self.indices);
        if indices.is_empty() {
            return Vec::new();
        }
        let (mut lines, terms) = match &self.grid {
            Grid::Store => (Vec::new(), self.store_terms(&indices)),
            Grid::Linear => {
                let axes: Vec<usize> = (0..self.shape.rank()).collect();
                self.walk("e", "c", &axes, &indices)
            }
            Grid::Reduce { axes } => {
                let reduced = axes.clone();
                let kept: Vec<usize> = (0..self.shape.rank()).filter(|axis| !reduced.contains(axis)).collect();
                let (mut lines, mut terms) = self.walk("o", "k", &kept, &indices);
                let (more, others) = self.walk("r", "d", &reduced, &indices);
                lines.extend(more);
                terms.iter_mut().zip(others).for_each(|(terms, others)| terms.extend(others));
                (lines, terms)
            }
        };
        for (index, ((_, offset, walk), terms)) in indices.iter().zip(terms).enumerate() {
            let mut sum = vec![self.walked_param(&format!("j{index}_offset"), *offset, *walk)];
            for (coordinate, stride) in terms {
                match stride {
                    0 => {}
                    1 => sum.push(coordinate),
                    _ => {
                        let stride = self.param(&format!("j{index}_{coordinate}"), stride);
                        sum.push(format!("{coordinate} * {stride}"));
                    }
                }
            }
            lines.push(format!("let j{index} = {};", sum.join(" + ")));
        }
        lines
    }

    pub(super) fn store_terms(&self, indices: &[(Vec<usize>, usize, Walk)]) -> Vec<Vec<(String, usize)>> {
        let names = ["batch", "row", "col"];
        indices
            .iter()
            .map(|(strides, ..)| names.iter().map(|name| name.to_string()).zip(strides.iter().copied()).collect())
            .collect()
    }

    /// Splits a linear index over some axes into coordinates, joining what all walk alike.
    pub(super) fn walk(
        &mut self,
        linear: &str,
        prefix: &str,
        axes: &[usize],
        indices: &[(Vec<usize>, usize, Walk)],
    ) -> (Vec<String>, Vec<Vec<(String, usize)>>) {
        let shape: Shape = axes.iter().map(|&axis| self.shape[axis]).collect();
        let strides: Vec<Vec<usize>> =
            indices.iter().map(|(all, ..)| axes.iter().map(|&axis| all[axis]).collect()).collect();
        let borrowed: Vec<&[usize]> = strides.iter().map(Vec::as_slice).collect();
        let (sizes, collapsed) = collapse(&shape, &borrowed);
        let rank = sizes.rank();
        let mut lines = Vec::new();
        let mut rest = linear.to_string();
        let mut names = vec![String::new(); rank];
        for axis in (0..rank).rev() {
            names[axis] = format!("{prefix}{axis}");
            if axis == 0 {
                lines.push(format!("let {} = {rest};", names[axis]));
            } else {
                // A reduction divides once for each element that it reads: by a constant, that is cheap. So does
                // code that is made for its sizes anyway.
                let size = match prefix == "d" || self.own_sizes {
                    true => format!("{}u", sizes[axis]),
                    false => self.param(&format!("{prefix}{axis}_size"), sizes[axis]),
                };
                lines.push(format!("let {} = {rest} % {size};", names[axis]));
                lines.push(format!("let {prefix}{axis}_rest = {rest} / {size};"));
                rest = format!("{prefix}{axis}_rest");
            }
        }
        let terms = collapsed.into_iter().map(|strides| names.iter().cloned().zip(strides).collect()).collect();
        (lines, terms)
    }
}
