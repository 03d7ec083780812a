//! Elements and rows picked by index, and written by index: the gathers and scatters of PyTorch and ONNX.
//!
//! Indices are i32 or u32 tensors known only at run time, so they cannot be refused while tracing. Everywhere, an index
//! outside `0..size` reads zeros, writes nothing and passes no gradient; a negative one does not count from the
//! end (PyTorch refuses both) unless it went through [`Tensor::wrap_index`].

use crate::dtype::DType;
use crate::graph::{Graph, Tensor};
use crate::shape::Shape;

impl<'g> Tensor<'g> {
    /// Indices of which the negative ones count from the end of an axis of this size, as in NumPy and ONNX.
    #[track_caller]
    pub fn wrap_index(self, size: usize) -> Tensor<'g> {
        let index = self.as_index("wrap_index");
        index.lt(0.0).select(index + size as f64, index)
    }

    /// Entries of an axis by index; `torch.index_select`, and for an index of any rank ONNX's `Gather` and
    /// `numpy.take`: the axes of the index stand where the axis was.
    #[track_caller]
    pub fn index_select(self, axis: isize, index: Tensor<'g>) -> Tensor<'g> {
        let at = self.axis("index_select", axis);
        if self.rank() == 0 {
            return self;
        }
        let (rank, lead) = (self.rank(), index.rank());
        let front: Vec<usize> = std::iter::once(at).chain((0..rank).filter(|&other| other != at)).collect();
        let rows = self.permute(&front).gather(index);
        // [index.., before.., after..] to [before.., index.., after..]
        let back: Vec<usize> = (lead..lead + at).chain(0..lead).chain(lead + at..lead + rank - 1).collect();
        rows.permute(&back)
    }

    /// One element of an axis for each element of the index: `torch.gather(dim, index)`, ONNX's `GatherElements`. The
    /// index has this tensor's rank and is nowhere larger but along the axis; the result has the index's shape.
    #[track_caller]
    pub fn gather_along(self, axis: isize, index: Tensor<'g>) -> Tensor<'g> {
        let at = self.axis("gather_along", axis);
        match self.flat_index("gather_along", at, index) {
            Some(flat) => self.reshape([self.shape().numel()]).gather(flat),
            None => self,
        }
    }

    /// [`Tensor::gather_along`] with this tensor and the index broadcast against each other in all other
    /// axes; `torch.take_along_dim(indices, dim)`.
    #[track_caller]
    pub fn take_along_dim(self, index: Tensor<'g>, axis: isize) -> Tensor<'g> {
        let at = self.axis("take_along_dim", axis);
        let (own, its) = (self.shape(), index.shape());
        let common = if own.rank() == its.rank() && at < own.rank() {
            own.with(at, 1).broadcast(&its.with(at, 1))
        } else {
            None
        };
        let Some(common) = common else {
            let message = format!("{own} and the index {its} must agree, or be 1, in all axes but {axis}");
            self.graph().record_error("take_along_dim", message);
            return self;
        };
        let index = index.broadcast_to(common.with(at, its[at]));
        self.broadcast_to(common.with(at, own[at])).gather_along(axis, index)
    }

    /// `src` added at the indices along an axis: `torch.Tensor.scatter_add(dim, index, src)`. The index has this
    /// tensor's rank, is nowhere larger but along the axis, and not larger than `src`. Equal indices are added in order.
    #[track_caller]
    pub fn scatter_add_along(self, axis: isize, index: Tensor<'g>, src: Tensor<'g>) -> Tensor<'g> {
        let at = self.axis("scatter_add_along", axis);
        let Some(flat) = self.flat_index("scatter_add_along", at, index) else { return self };
        let Some(src) = src.cut_to("scatter_add_along", &index.shape()) else { return self };
        let count = flat.shape().numel();
        let sums = src.reshape([count]).scatter_add(flat.reshape([count]), self.shape().numel());
        self + sums.reshape(self.shape())
    }

    /// `src` written over the places that the indices along an axis name: `torch.Tensor.scatter(dim, index, src)`, ONNX's
    /// `ScatterElements`. Shapes as for [`Tensor::scatter_add_along`]. Of equal indices the last one is written.
    #[track_caller]
    pub fn scatter(self, axis: isize, index: Tensor<'g>, src: Tensor<'g>) -> Tensor<'g> {
        let at = self.axis("scatter", axis);
        let Some(flat) = self.flat_index("scatter", at, index) else { return self };
        let Some(src) = src.cut_to("scatter", &index.shape()) else { return self };
        let count = flat.shape().numel();
        let table = self.reshape([self.shape().numel()]);
        table.overwrite("scatter", flat.reshape([count]), src.reshape([count])).reshape(self.shape())
    }

    /// `src` written over the entries of an axis that the index `[n]` names: `torch.Tensor.index_copy(dim, index,
    /// source)`. Shapes as for [`Tensor::index_add`]. Of equal indices the last one is written.
    #[track_caller]
    pub fn index_copy(self, axis: isize, index: Tensor<'g>, src: Tensor<'g>) -> Tensor<'g> {
        let Some((front, back)) = self.rows_of("index_copy", axis, index, src) else { return self };
        self.permute(&front).overwrite("index_copy", index, src.permute(&front)).permute(&back)
    }

    /// Rows `[n, rest..]` written over those of this table `[rows, rest..]` that the index `[n]` names.
    #[track_caller]
    fn overwrite(self, op: &str, index: Tensor<'g>, src: Tensor<'g>) -> Tensor<'g> {
        if src.dtype() != self.dtype() {
            self.graph().record_error(op, format!("cannot write {} into {}", src.dtype(), self.dtype()));
            return self;
        }
        let (rows, count) = (self.shape()[0], index.shape().numel());
        if count == 0 {
            return self;
        }
        // Sorted stably, the last of equal indices is the last to be written.
        let index = index.as_index(op);
        let order = index.argsort(0, false);
        let sorted = index.gather(order);
        let last = sorted.ne(sorted.slice(0, 1, count).pad(0, 0, 1, -1.0));
        let writer = (order + 1).scatter_add(last.select(sorted, -1.0), rows) - 1;
        let written = src.gather(writer);
        let lead: Shape = std::iter::once(rows).chain(vec![1; self.rank() - 1]).collect();
        writer.ge(0.0).reshape(lead).select(written, self)
    }

    /// `src` added to the entries of an axis that the index `[n]` names: `torch.Tensor.index_add(dim, index, source)`.
    /// `src` has this tensor's shape, with `n` along the axis.
    #[track_caller]
    pub fn index_add(self, axis: isize, index: Tensor<'g>, src: Tensor<'g>) -> Tensor<'g> {
        let Some((front, back)) = self.rows_of("index_add", axis, index, src) else { return self };
        self + src.permute(&front).scatter_add(index, self.shape()[front[0]]).permute(&back)
    }

    /// The orders of axes that bring `axis` to the front, and back, if index and source fit.
    #[track_caller]
    fn rows_of(self, op: &str, axis: isize, index: Tensor<'g>, src: Tensor<'g>) -> Option<(Vec<usize>, Vec<usize>)> {
        let at = self.axis(op, axis);
        let shape = self.shape();
        if index.rank() != 1 || at >= shape.rank() || src.shape() != shape.with(at, index.shape()[0]) {
            let message = format!(
                "wants an index [n] and a source of shape {shape} with n along axis {axis}, got {} and {}",
                index.shape(),
                src.shape()
            );
            self.graph().record_error(op, message);
            return None;
        }
        let front = std::iter::once(at).chain((0..shape.rank()).filter(|&other| other != at)).collect();
        let back = (1..=at).chain([0]).chain(at + 1..shape.rank()).collect();
        Some((front, back))
    }

    /// Elements by coordinates: ONNX's `GatherND` without batch axes. The last axis of the index, of size `k`, holds
    /// coordinates of the first `k` axes; the result is `[index[..-1].., self[k..]..]`.
    #[track_caller]
    pub fn gather_nd(self, index: Tensor<'g>) -> Tensor<'g> {
        match self.flat_rows("gather_nd", index) {
            Some((rows, flat, rest)) => {
                let table: Shape = std::iter::once(rows).chain(rest.iter().copied()).collect();
                self.reshape(table).gather(flat)
            }
            None => self,
        }
    }

    /// `updates` added at coordinates: ONNX's `ScatterND` with `reduction="add"`. The last axis of the index, of
    /// size `k`, holds coordinates of the first `k` axes; updates are `[index[..-1].., self[k..]..]`.
    #[track_caller]
    pub fn scatter_nd_add(self, index: Tensor<'g>, updates: Tensor<'g>) -> Tensor<'g> {
        let Some((rows, flat, _)) = self.updates_of("scatter_nd_add", index, updates) else { return self };
        self + updates.scatter_add(flat, rows).reshape(self.shape())
    }

    /// `updates` written over what the coordinates name: ONNX's `ScatterND`. Shapes as for [`Tensor::scatter_nd_add`]. Of
    /// equal coordinates the last are written.
    #[track_caller]
    pub fn scatter_nd(self, index: Tensor<'g>, updates: Tensor<'g>) -> Tensor<'g> {
        let Some((rows, flat, rest)) = self.updates_of("scatter_nd", index, updates) else { return self };
        let count = flat.shape().numel();
        let table = |rows: usize| std::iter::once(rows).chain(rest.iter().copied()).collect::<Shape>();
        let written =
            self.reshape(table(rows)).overwrite("scatter_nd", flat.reshape([count]), updates.reshape(table(count)));
        written.reshape(self.shape())
    }

    /// [`Tensor::flat_rows`], if the updates fit.
    #[track_caller]
    fn updates_of(self, op: &str, index: Tensor<'g>, updates: Tensor<'g>) -> Option<(usize, Tensor<'g>, Shape)> {
        let (rows, flat, rest) = self.flat_rows(op, index)?;
        let wanted: Shape = flat.shape().iter().chain(rest.iter()).copied().collect();
        if updates.shape() != wanted {
            self.graph().record_error(op, format!("updates must be {wanted}, got {}", updates.shape()));
            return None;
        }
        Some((rows, flat, rest))
    }

    /// 1 where the class is the index, else 0: `[..]` to f32 `[.., classes]`. `torch.nn.functional.one_hot`, as floats;
    /// an index outside gives zeros.
    #[track_caller]
    pub fn one_hot(self, classes: usize) -> Tensor<'g> {
        if classes == 0 {
            self.graph().record_error("one_hot", "takes at least one class".into());
            return self;
        }
        let index = self.as_index("one_hot");
        let shape: Shape = self.shape().iter().copied().chain([classes]).collect();
        let class = self.graph().iota(&shape, shape.rank() - 1);
        class.eq(index.unsqueeze(-1)).cast(DType::F32)
    }

    /// How often each of `0..bins` occurs in this tensor of indices, of any shape, as i32 `[bins]`: `torch.bincount`
    /// with a size known beforehand.
    #[track_caller]
    pub fn bincount(self, bins: usize) -> Tensor<'g> {
        let index = self.as_index("bincount");
        let count = self.shape().numel();
        index.scalar_like(1.0).broadcast_to([count]).scatter_add(index.reshape([count]), bins)
    }

    /// Counts of the elements in `bins` equal intervals of `low..=high`, as f32 `[bins]`; others are not
    /// counted. `torch.histc`.
    #[track_caller]
    pub fn histc(self, bins: usize, low: f64, high: f64) -> Tensor<'g> {
        if bins == 0 || low.partial_cmp(&high) != Some(std::cmp::Ordering::Less) {
            let message = format!("needs at least one bin and low < high, got {bins} bins of {low}..={high}");
            self.graph().record_error("histc", message);
            return self;
        }
        let place = ((self.stop_gradient() - low) * (bins as f64 / (high - low))).floor();
        let inside = self.ge(low).logical_and(self.le(high));
        let place = inside.select(place.minimum(bins as f64 - 1.0), -1.0).cast(DType::I32);
        place.bincount(bins).cast(DType::F32)
    }

    /// For each of `values [.., m]` how many elements of this sorted `[.., n]` are smaller (or, `right`, not larger):
    /// where it would be put in, i32. `torch.searchsorted`; a sorted `[n]` serves values of any shape. Compares all
    /// pairs, so it suits few boundaries.
    #[track_caller]
    pub fn searchsorted(self, values: Tensor<'g>, right: bool) -> Tensor<'g> {
        let (sorted, shape) = (self.shape(), values.shape());
        let rank = sorted.rank();
        let fits = rank == 1 || (rank > 1 && rank == shape.rank() && sorted[..rank - 1] == shape[..rank - 1]);
        if !fits {
            let message =
                format!("wants a sorted [n], or [.., n] with the leading axes of the values {shape}, got {sorted}");
            self.graph().record_error("searchsorted", message);
            return values;
        }
        let boundary = if rank == 1 { self } else { self.unsqueeze(-2) };
        let value = values.unsqueeze(-1);
        let below = if right { boundary.le(value) } else { boundary.lt(value) };
        below.cast(DType::I32).sum(&[-1])
    }

    /// [`Tensor::searchsorted`] with the boundaries second: `torch.bucketize(input, boundaries, right=right)`.
    #[track_caller]
    pub fn bucketize(self, boundaries: Tensor<'g>, right: bool) -> Tensor<'g> {
        boundaries.searchsorted(self, right)
    }

    /// Refused: how many elements there are would be known only at run time (`torch.masked_select`).
    #[track_caller]
    pub fn masked_select(self, _mask: Tensor<'g>) -> Tensor<'g> {
        refuse_dynamic(
            self.graph(),
            "masked_select",
            "keep the shape and use `mask.select(x, 0.0)`, or weigh by the mask",
        );
        self
    }

    /// Refused: how many elements there are would be known only at run time (`torch.nonzero`).
    #[track_caller]
    pub fn nonzero(self) -> Tensor<'g> {
        refuse_dynamic(
            self.graph(),
            "nonzero",
            "sort the mask (`argsort`) to bring a known number of places to the front",
        );
        self
    }

    /// i32 indices from i32 or u32.
    #[track_caller]
    fn as_index(self, op: &str) -> Tensor<'g> {
        if !self.dtype().is_int() {
            self.graph().record_error(op, format!("indices must be i32 or u32, got {}", self.dtype()));
        }
        self.cast(DType::I32)
    }

    /// The first part of this tensor that has a shape which is nowhere larger.
    #[track_caller]
    fn cut_to(self, op: &str, shape: &Shape) -> Option<Tensor<'g>> {
        let own = self.shape();
        if own.rank() != shape.rank() || (0..own.rank()).any(|axis| shape[axis] > own[axis]) {
            self.graph().record_error(op, format!("the source {own} must not be smaller than the index {shape}"));
            return None;
        }
        let mut part = self;
        for axis in 0..own.rank() {
            if own[axis] != shape[axis] {
                part = part.slice(axis as isize, 0, shape[axis]);
            }
        }
        Some(part)
    }

    /// For each element of an index along an axis where it lies in this tensor, flattened; -1 where it lies nowhere.
    #[track_caller]
    fn flat_index(self, op: &str, axis: usize, index: Tensor<'g>) -> Option<Tensor<'g>> {
        let (own, its) = (self.shape(), index.shape());
        let fits = own.rank() == its.rank()
            && own.rank() > 0
            && (0..own.rank()).all(|other| other == axis || its[other] <= own[other]);
        if !fits {
            let message =
                format!("the index {its} must have the rank of {own} and be nowhere larger but along axis {axis}");
            self.graph().record_error(op, message);
            return None;
        }
        let index = index.as_index(op);
        let strides = own.strides();
        let mut flat = index * strides[axis] as f64;
        for other in (0..own.rank()).filter(|&other| other != axis && its[other] > 1) {
            flat = flat + self.graph().iota(&its, other) * strides[other] as f64;
        }
        Some(inside(index, own[axis]).select(flat, -1.0))
    }

    /// For coordinates `[.., k]`: the number of rows that the first `k` axes make, the row of each (-1 outside),
    /// and the axes of a row.
    #[track_caller]
    fn flat_rows(self, op: &str, index: Tensor<'g>) -> Option<(usize, Tensor<'g>, Shape)> {
        let (own, its) = (self.shape(), index.shape());
        let k = its.last().copied().unwrap_or(0);
        if k == 0 || k > own.rank() {
            let message =
                format!("the last axis of the index {its} must hold 1 to {} coordinates of {own}", own.rank());
            self.graph().record_error(op, message);
            return None;
        }
        let index = index.as_index(op);
        let coordinate = |axis: usize| index.slice(-1, axis, axis + 1).squeeze(-1);
        let mut flat = coordinate(0);
        let mut valid = inside(flat, own[0]);
        for axis in 1..k {
            let at = coordinate(axis);
            flat = flat * own[axis] as f64 + at;
            valid = valid.logical_and(inside(at, own[axis]));
        }
        let rows = own[..k].iter().product();
        Some((rows, valid.select(flat, -1.0), own[k..].into()))
    }
}

/// Where an index lies in `0..size`.
fn inside(index: Tensor<'_>, size: usize) -> Tensor<'_> {
    index.ge(0.0).logical_and(index.lt(size as f64))
}

#[track_caller]
fn refuse_dynamic(graph: &Graph, op: &str, instead: &str) {
    let message = format!("the size of its result depends on data, and programs have fixed shapes; {instead}");
    graph.record_error(op, message);
}
