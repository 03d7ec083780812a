//! Composites over vectors and matrices: products of vectors, triangles, diagonals.

use crate::graph::Tensor;
use crate::shape::Shape;

impl<'g> Tensor<'g> {
    /// Whether the ranks are as wanted; else an error that shows the shapes is recorded.
    #[track_caller]
    fn ranks(self, op: &str, wanted: &str, holds: bool, others: &[Tensor<'g>]) -> bool {
        if !holds {
            let others: String = others.iter().map(|other| format!(" and {}", other.shape())).collect();
            self.graph().record_error(op, format!("takes {wanted}, got {}{others}", self.shape()));
        }
        holds
    }

    /// The inner product of two vectors of one length: a scalar.
    #[track_caller]
    pub fn dot(self, other: Tensor<'g>) -> Tensor<'g> {
        let holds = self.rank() == 1 && self.shape() == other.shape();
        if !self.ranks("dot", "two vectors of one length", holds, &[other]) {
            return self;
        }
        (self * other).sum_all()
    }

    /// All products of the elements of two vectors: `[n]` and `[m]` to `[n, m]`.
    #[track_caller]
    pub fn outer(self, other: Tensor<'g>) -> Tensor<'g> {
        if !self.ranks("outer", "two vectors", self.rank() == 1 && other.rank() == 1, &[other]) {
            return self;
        }
        self.unsqueeze(1) * other
    }

    /// The Kronecker product: each element times the whole of `other`. Leading axes are added to the lower rank.
    #[track_caller]
    pub fn kron(self, other: Tensor<'g>) -> Tensor<'g> {
        let rank = self.rank().max(other.rank());
        let sizes = |tensor: Tensor<'g>| -> Vec<usize> {
            std::iter::repeat_n(1, rank - tensor.rank()).chain(tensor.shape().iter().copied()).collect()
        };
        let (a, b) = (sizes(self), sizes(other));
        let outer: Shape = a.iter().flat_map(|&size| [size, 1]).collect();
        let inner: Shape = b.iter().flat_map(|&size| [1, size]).collect();
        let joined: Shape = a.iter().zip(&b).map(|(&a, &b)| a.saturating_mul(b)).collect();
        (self.reshape(outer) * other.reshape(inner)).reshape(joined)
    }

    /// Matrices `[.., m, n]` with zeros above the diagonal (shifted right by `diagonal`).
    #[track_caller]
    pub fn tril(self, diagonal: isize) -> Tensor<'g> {
        self.triangle("tril", diagonal, |end, column| column.le(end))
    }

    /// Matrices `[.., m, n]` with zeros below the diagonal (shifted right by `diagonal`).
    #[track_caller]
    pub fn triu(self, diagonal: isize) -> Tensor<'g> {
        self.triangle("triu", diagonal, |end, column| column.ge(end))
    }

    #[track_caller]
    fn triangle(
        self,
        op: &str,
        diagonal: isize,
        keep: impl FnOnce(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let shape = self.shape();
        if !self.ranks(op, "matrices", shape.rank() >= 2, &[]) {
            return self;
        }
        let matrix = &shape[shape.rank() - 2..];
        // Beyond the corners every shift is alike, and not every one is an i32.
        let diagonal = (diagonal as i128).clamp(-(matrix[0] as i128), matrix[1] as i128);
        let keep = keep(self.graph().iota(matrix, 0) + diagonal as f64, self.graph().iota(matrix, 1));
        keep.select(self, 0.0)
    }

    /// The diagonal of the matrices that two axes span, shifted by `offset` towards larger indices of `second`; it becomes the
    /// last axis, behind the others. `torch.diagonal`.
    #[track_caller]
    pub fn diagonal(self, offset: isize, first: isize, second: isize) -> Tensor<'g> {
        if !self.ranks("diagonal", "at least two axes", self.rank() >= 2, &[]) {
            return self;
        }
        let (first, second) = (self.axis("diagonal", first), self.axis("diagonal", second));
        if first == second {
            self.graph().record_error("diagonal", format!("takes two different axes, got {first} twice"));
            return self;
        }
        let others = (0..self.rank()).filter(|&axis| axis != first && axis != second);
        let x = self.permute(&others.chain([first, second]).collect::<Vec<_>>());
        let (rows, columns) = (self.shape()[first], self.shape()[second]);
        let (top, left) = (offset.min(0).unsigned_abs(), offset.max(0).unsigned_abs());
        let length = rows.saturating_sub(top).min(columns.saturating_sub(left));
        let (top, left) = (top.min(rows), left.min(columns));
        let square = x.slice(-2, top, top + length).slice(-1, left, left + length);
        // Rows one longer than the square's put its diagonal into a column.
        let lead = x.shape()[..x.rank() - 2].to_vec();
        let with = |tail: &[usize]| lead.iter().chain(tail).copied().collect::<Shape>();
        let padded = square.reshape(with(&[length.saturating_mul(length)])).pad(-1, 0, length, 0.0);
        padded.reshape(with(&[length, length + 1])).slice(-1, 0, 1).squeeze(-1)
    }

    /// Matrices with the last axis of this tensor as their diagonal (shifted right by `offset`) and zeros elsewhere.
    #[track_caller]
    pub fn diag_embed(self, offset: isize) -> Tensor<'g> {
        let shape = self.shape();
        if !self.ranks("diag_embed", "at least one axis", shape.rank() >= 1, &[]) {
            return self;
        }
        let (lead, n) = (&shape[..shape.rank() - 1], shape[shape.rank() - 1]);
        let with = |tail: &[usize]| lead.iter().chain(tail).copied().collect::<Shape>();
        let column = self.unsqueeze(-1).pad(-1, 0, n, 0.0);
        let area = n.saturating_mul(n);
        let square = column.reshape(with(&[area.saturating_add(n)])).slice(-1, 0, area).reshape(with(&[n, n]));
        let (down, right) = (offset.min(0).unsigned_abs(), offset.max(0).unsigned_abs());
        if offset == 0 { square } else { square.pad(-2, down, right, 0.0).pad(-1, right, down, 0.0) }
    }

    /// A vector as the diagonal of a matrix, or the diagonal of a matrix as a vector; `torch.diag`.
    #[track_caller]
    pub fn diag(self, offset: isize) -> Tensor<'g> {
        match self.rank() {
            1 => self.diag_embed(offset),
            2 => self.diagonal(offset, 0, 1),
            _ => {
                self.ranks("diag", "a vector or a matrix", false, &[]);
                self
            }
        }
    }

    /// The sum of a matrix's diagonal: a scalar.
    #[track_caller]
    pub fn trace(self) -> Tensor<'g> {
        if !self.ranks("trace", "a matrix", self.rank() == 2, &[]) {
            return self;
        }
        self.diagonal(0, 0, 1).sum_all()
    }
}
