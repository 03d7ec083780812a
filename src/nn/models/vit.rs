//! ViT: a transformer encoder over the patches of an image (Dosovitskiy et al. 2020): a class token,
//! learned positions, pre-norm blocks, GELU by the error function.
//!
//! Parameters are named as in timm's `VisionTransformer`. Weights of linear layers are transposed, and the
//! patch embedding is one of them: its rows are a patch's elements in the order (channel, row, column).
//!
//! Shapes in names: `b` samples, `c` channels, `n` patches, `t` positions (class token and patches), `d` features,
//! `h` heads, `s` features of a head.

use crate::graph::Tensor;
use crate::nn::{Dropout, Init, LayerNorm, Linear, Param, Parameters};
use crate::tensor::concat;

/// The size of a [`Vit`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VitConfig {
    /// Height and width of an image, a multiple of `patch`.
    pub image: usize,
    /// Height and width of a patch.
    pub patch: usize,
    pub channels: usize,
    pub classes: usize,
    pub layers: usize,
    pub heads: usize,
    /// Features of a position between blocks, a multiple of `heads`.
    pub width: usize,
    /// Features inside the perceptron of a block.
    pub hidden: usize,
    /// Probability, after the embedding and each branch.
    pub dropout: f64,
}

impl VitConfig {
    /// ViT-B/16 for images of 224 x 224: 86,567,656 parameters (torchvision's `vit_b_16`).
    pub const fn b16() -> VitConfig {
        let (image, patch, channels, classes, layers, heads) = (224, 16, 3, 1000, 12, 12);
        VitConfig { image, patch, channels, classes, layers, heads, width: 768, hidden: 3072, dropout: 0.0 }
    }
}

/// The model.
#[derive(Debug, Clone)]
pub struct Vit {
    pub config: VitConfig,
    class_token: Param,
    position: Param,
    patches: Linear,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    dropout: Dropout,
}

/// Attention and perceptron, each added to the stream.
#[derive(Debug, Clone)]
struct Block {
    index: usize,
    heads: usize,
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    dropout: Dropout,
}

impl Vit {
    /// Matrices, class token and positions start normal with deviation 0.02, biases at 0.
    pub fn new(parameters: &mut Parameters, config: VitConfig) -> Vit {
        let VitConfig { image, patch, channels, classes, layers, width, dropout, .. } = config;
        let patches = (image / patch.max(1)).pow(2);
        let vit = Vit {
            config,
            class_token: parameters.add("cls_token", [1, 1, width], Init::Zeros),
            position: parameters.add("pos_embed", [1, patches + 1, width], Init::Zeros),
            patches: Linear::new(parameters, "patch_embed.proj", channels * patch * patch, width),
            blocks: (0..layers)
                .map(|index| parameters.scope(&format!("blocks.{index}"), |p| Block::new(p, index, &config)))
                .collect(),
            norm: layer_norm(parameters, "norm", width),
            head: Linear::new(parameters, "head", width, classes),
            dropout: Dropout::new(dropout),
        };
        parameters.init_by(|name, shape| match shape.rank() {
            2 | 3 => Some(Init::Normal(0.02)),
            _ => name.ends_with("bias").then_some(Init::Zeros),
        });
        vit
    }

    /// Images `[b, c, height, width]` to logits `[b, classes]`.
    #[track_caller]
    pub fn forward<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        let VitConfig { image, channels, width, .. } = self.config;
        let (graph, shape) = (images.graph(), images.shape());
        if shape.rank() != 4 || shape[1..] != [channels, image, image] {
            let message = format!("images must be [samples, {channels}, {image}, {image}], got {shape}");
            graph.record_error("vit", message);
            return images;
        }
        let patches_bnd = self.patches.forward(self.cut(images));
        let class_b1d = self.class_token.tensor(graph).broadcast_to([shape[0], 1, width]);
        let x_btd = concat(class_b1d, &[patches_bnd], 1) + self.position.tensor(graph);
        let x_btd = self.blocks.iter().fold(self.dropout.forward(x_btd), |x_btd, block| block.forward(x_btd));
        self.head.forward(self.norm.forward(x_btd).slice(1, 0, 1).squeeze(1))
    }

    /// The patches of images `[b, c, height, width]`, row by row: `[b, n, c * patch * patch]`.
    fn cut<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        let VitConfig { image, patch, channels, .. } = self.config;
        let (b, side) = (images.shape()[0], image / patch.max(1));
        let blocks = images.reshape([b, channels, side, patch, side, patch]).permute(&[0, 2, 4, 1, 3, 5]);
        blocks.reshape([b, side * side, channels * patch * patch])
    }
}

impl Block {
    fn new(parameters: &mut Parameters, index: usize, config: &VitConfig) -> Block {
        let VitConfig { heads, width, hidden, dropout, .. } = *config;
        Block {
            index,
            heads,
            norm1: layer_norm(parameters, "norm1", width),
            qkv: Linear::new(parameters, "attn.qkv", width, 3 * width),
            proj: Linear::new(parameters, "attn.proj", width, width),
            norm2: layer_norm(parameters, "norm2", width),
            fc1: Linear::new(parameters, "mlp.fc1", width, hidden),
            fc2: Linear::new(parameters, "mlp.fc2", hidden, width),
            dropout: Dropout::new(dropout),
        }
    }

    fn forward<'g>(&self, x_btd: Tensor<'g>) -> Tensor<'g> {
        x_btd.graph().scope(&format!("blocks.{}", self.index), || {
            let x_btd = x_btd + self.dropout.forward(self.attention(self.norm1.forward(x_btd)));
            let branch_btd = self.fc2.forward(self.fc1.forward(self.norm2.forward(x_btd)).gelu());
            x_btd + self.dropout.forward(branch_btd)
        })
    }

    fn attention<'g>(&self, x_btd: Tensor<'g>) -> Tensor<'g> {
        let (shape, qkv) = (x_btd.shape(), self.qkv.forward(x_btd));
        let (width, split) = (shape[2], [shape[0], shape[1], self.heads, shape[2] / self.heads.max(1)]);
        let [q_bths, k_bths, v_bths] =
            [0, 1, 2].map(|part| qkv.slice(-1, part * width, (part + 1) * width).reshape(split));
        self.proj.forward(q_bths.attention(k_bths, v_bths, false).reshape(&shape))
    }
}

/// ViT's norm has a smaller eps than PyTorch's default.
fn layer_norm(parameters: &mut Parameters, name: &str, features: usize) -> LayerNorm {
    LayerNorm::new(parameters, name, features).with_eps(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    fn vit_b_16_has_the_published_size() {
        let mut parameters = Parameters::new();
        Vit::new(&mut parameters, VitConfig::b16());
        assert_eq!(parameters.count(), 86_567_656);
    }

    #[test]
    fn images_give_logits_and_other_sizes_are_refused() {
        let config = VitConfig { image: 8, patch: 4, layers: 1, heads: 2, width: 8, hidden: 16, ..VitConfig::b16() };
        let model = Vit::new(&mut Parameters::new(), config);
        let graph = Graph::new();
        let logits = model.forward(graph.input("x", [2, 3, 8, 8], DType::F32));
        graph.error().unwrap();
        assert_eq!(logits.shape()[..], [2, 1000]);
        model.forward(graph.input("y", [2, 3, 9, 8], DType::F32));
        assert!(graph.error().unwrap_err().to_string().contains("[samples, 3, 8, 8]"));
    }
}
