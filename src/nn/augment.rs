//! Random changes to images while training, inside the traced step: moved, turned, mirrored, recoloured.
//!
//! Each image has its own random numbers, drawn by its global index like those of dropout, so that neither the
//! split into batches nor a resumed run changes them. In evaluation images stay as they are. Knows nothing about
//! where images come from. The meaning follows torchvision's `RandomAffine`, `RandomCrop`, `RandomHorizontalFlip`
//! and `ColorJitter` (colours always in the order brightness, contrast, saturation).

use crate::dtype::DType;
use crate::graph::Tensor;
use crate::tensor::RNG_KEY;

/// How much images are changed; 0 leaves a property alone.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Augment {
    /// Largest move to each side, as a fraction of the side. Without turning or scaling it is a whole number of
    /// pixels, as a crop from the image with a border of zeros around it.
    pub shift: f64,
    /// Largest angle to each side, in degrees.
    pub rotate: f64,
    /// Largest change of size, up or down, as a fraction.
    pub scale: f64,
    /// Probability of being mirrored left to right.
    pub flip: f64,
    /// The factor on all values lies within this of 1.
    pub brightness: f64,
    /// The factor on the distance from the image's mean grey lies within this of 1.
    pub contrast: f64,
    /// The factor on the distance from the pixel's own grey lies within this of 1; needs three channels.
    pub saturation: f64,
}

/// The random numbers of each image, by their column.
const COLUMNS: usize = 8;
const SHIFT_X: usize = 0;
const SHIFT_Y: usize = 1;
const ROTATE: usize = 2;
const SCALE: usize = 3;
const FLIP: usize = 4;
const BRIGHTNESS: usize = 5;
const CONTRAST: usize = 6;
const SATURATION: usize = 7;

/// Uniform numbers in 0..1 for each image, `[samples, COLUMNS]`, and the shape of the images.
///
/// What is drawn for an image is spread over its pixels before anything is computed from it: the compiler then makes
/// one kernel of all that happens to a pixel, where numbers of another shape would each have a kernel of their own.
#[derive(Clone, Copy)]
struct Chance<'g> {
    numbers: Tensor<'g>,
    images: Tensor<'g>,
}

impl<'g> Chance<'g> {
    /// One number for each image at each of its pixels, in 0..1.
    fn column(self, column: usize) -> Tensor<'g> {
        let shape = self.images.shape();
        self.numbers.slice(1, column, column + 1).reshape([shape[0], 1, 1, 1]).broadcast_to(&shape)
    }

    /// Uniform within `reach` of `middle`, but not below 0 for factors.
    fn around(self, column: usize, middle: f64, reach: f64) -> Tensor<'g> {
        let low = if middle > 0.0 { (middle - reach).max(0.0) } else { middle - reach };
        self.column(column) * (middle + reach - low) + low
    }
}

impl Augment {
    /// Images `[samples, channels, height, width]`, u8 or f32, to f32 of the same shape. `white` is the value of
    /// full intensity; the result lies in 0..=1.
    #[track_caller]
    pub fn forward<'g>(&self, images: Tensor<'g>, white: f64) -> Tensor<'g> {
        let (graph, shape) = (images.graph(), images.shape());
        if shape.rank() != 4 {
            graph.record_error("augment", format!("images must be [samples, channels, height, width], got {shape}"));
            return images.cast(DType::F32);
        }
        graph.scope("augment", || {
            if !graph.is_training() || *self == Augment::default() {
                return images.cast(DType::F32) * (1.0 / white);
            }
            let bits = graph.random_bits(graph.input(RNG_KEY, [2], DType::U32), [shape[0], COLUMNS]);
            let chance = Chance { numbers: bits.cast(DType::F32) * (1.0 / 4_294_967_296.0), images };
            let moved = if self.rotate > 0.0 || self.scale > 0.0 {
                self.turned(images, chance)
            } else {
                self.cropped(images, chance)
            };
            self.recoloured(moved * (1.0 / white), chance)
        })
    }

    /// Moved by whole pixels and mirrored: every pixel is read from one place.
    fn cropped<'g>(&self, images: Tensor<'g>, chance: Chance<'g>) -> Tensor<'g> {
        let shape = images.shape();
        let reach = |side: usize| (self.shift * side as f64).round();
        // Each of the 2 reach + 1 places is as likely.
        let offset = |column, reach: f64| {
            let place = (chance.column(column) * (2.0 * reach + 1.0)).floor().minimum(2.0 * reach);
            place.cast(DType::I32) - reach
        };
        if reach(shape[2]) == 0.0 && reach(shape[3]) == 0.0 && self.flip == 0.0 {
            return images.cast(DType::F32);
        }
        let place = Place::of(images);
        let x = self.mirrored(place.x, shape[3], chance) + offset(SHIFT_X, reach(shape[3]));
        let y = place.y + offset(SHIFT_Y, reach(shape[2]));
        place.read(images, x, y)
    }

    /// Turned, scaled, moved and mirrored: every pixel is mixed from four.
    fn turned<'g>(&self, images: Tensor<'g>, chance: Chance<'g>) -> Tensor<'g> {
        let shape = images.shape();
        let place = Place::of(images);
        let angle = chance.around(ROTATE, 0.0, self.rotate.to_radians());
        let scale = chance.around(SCALE, 1.0, self.scale);
        let (cos, sin) = (angle.cos() * scale, angle.sin() * scale);
        // Pixels are counted from the middle of the image.
        let middle = |side: usize| (side as f64 - 1.0) / 2.0;
        let dx = self.mirrored(place.x, shape[3], chance).cast(DType::F32) - middle(shape[3]);
        let dy = place.y.cast(DType::F32) - middle(shape[2]);
        let shift = |column, side: usize| chance.around(column, 0.0, self.shift * side as f64) + middle(side);
        let x = dx * cos - dy * sin + shift(SHIFT_X, shape[3]);
        let y = dx * sin + dy * cos + shift(SHIFT_Y, shape[2]);
        let (left, top) = (x.floor(), y.floor());
        let (right_part, low_part) = (x - left, y - top);
        let (left, top) = (left.cast(DType::I32), top.cast(DType::I32));
        let row = |y| {
            let (a, b) = (place.read(images, left, y), place.read(images, left + 1, y));
            a + (b - a) * right_part
        };
        let (upper, lower) = (row(top), row(top + 1));
        upper + (lower - upper) * low_part
    }

    fn mirrored<'g>(&self, x: Tensor<'g>, width: usize, chance: Chance<'g>) -> Tensor<'g> {
        if self.flip == 0.0 {
            return x;
        }
        let other = x.scalar_like(width as f64 - 1.0) - x;
        chance.column(FLIP).lt(self.flip).select(other, x)
    }

    fn recoloured<'g>(&self, images: Tensor<'g>, chance: Chance<'g>) -> Tensor<'g> {
        let mut images = images;
        let away = |images: Tensor<'g>, from: Tensor<'g>, factor: Tensor<'g>| {
            ((images - from) * factor + from).maximum(0.0).minimum(1.0)
        };
        if self.brightness > 0.0 {
            images = (images * chance.around(BRIGHTNESS, 1.0, self.brightness)).minimum(1.0);
        }
        if self.contrast > 0.0 {
            let grey = grey(images);
            let mean = grey.mean(&[1, 2, 3]).reshape([images.shape()[0], 1, 1, 1]).broadcast_to(images.shape());
            images = away(images, mean, chance.around(CONTRAST, 1.0, self.contrast));
        }
        if self.saturation > 0.0 && images.shape()[1] == 3 {
            images = away(images, grey(images), chance.around(SATURATION, 1.0, self.saturation));
        }
        images
    }
}

/// The brightness that an eye sees, `[samples, 1, height, width]`.
fn grey(images: Tensor<'_>) -> Tensor<'_> {
    if images.shape()[1] != 3 {
        return images.mean(&[1]).unsqueeze(1);
    }
    let channel = |index| images.slice(1, index, index + 1);
    channel(0) * 0.2989 + channel(1) * 0.587 + channel(2) * 0.114
}

/// Where each pixel lies, as i32 of the images' shape.
struct Place<'g> {
    /// Index of the first pixel of the plane.
    plane: Tensor<'g>,
    x: Tensor<'g>,
    y: Tensor<'g>,
}

impl<'g> Place<'g> {
    fn of(images: Tensor<'g>) -> Place<'g> {
        let (graph, shape) = (images.graph(), images.shape());
        let along = |axis: usize| graph.iota(shape.clone(), axis);
        let plane = (along(0) * shape[1] as f64 + along(1)) * (shape[2] * shape[3]) as f64;
        Place { plane, x: along(3), y: along(2) }
    }

    /// The pixels at these coordinates as f32; zeros outside of the image.
    fn read(&self, images: Tensor<'g>, x: Tensor<'g>, y: Tensor<'g>) -> Tensor<'g> {
        let shape = images.shape();
        let (height, width) = (shape[2] as f64, shape[3] as f64);
        let inside = x.ge(0.0).logical_and(x.lt(width)).logical_and(y.ge(0.0)).logical_and(y.lt(height));
        // An index outside of a table gives zero.
        let index = inside.select(self.plane + y * width + x, -1.0);
        images.reshape([shape.numel()]).gather(index).cast(DType::F32)
    }
}
