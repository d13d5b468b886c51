//! Transformer: Vaswani et al., "Attention Is All You Need" (NeurIPS 2017). The default size is the
//! base model of table 3.
//!
//! Parameters are those of `torch.nn.Transformer` and one embedding, which source, target and
//! output share (section 3.4).

use super::modules::{Context, Module, linear};
use super::{Model, ModelOutput, Translator};
use crate::datasets::Batch;
use crate::datasets::text;
use crate::error::TracerError;
use crate::tap::{AttentionLayer, LinearLayer, Tap};
use crate::weights::{Init, ModulePath};
use tch::{Kind, Tensor};

const DROPOUT: f64 = 0.1;
const EPSILON: f64 = 1e-5;
const PAD: i64 = text::PAD as i64;
/// Columns of a head, as in the paper's base model.
const HEAD: i64 = 64;

/// Maximum width, well above the paper's largest model.
const MAX_WIDTH: i64 = 4096;
/// Maximum depth, well above the paper's largest model.
const MAX_DEPTH: u32 = 48;

/// The size of a Transformer: `d_model` and N of table 3. Heads have 64 columns, and `d_ff` is
/// 4 `d_model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerSize {
    /// Columns of an embedding, a multiple of [`HEAD`].
    pub width: i64,
    /// Layers of the encoder, and of the decoder.
    pub depth: u32,
}

impl TransformerSize {
    /// The base model.
    pub const BASE: Self = Self { width: 512, depth: 6 };

    /// Sets the width or the depth.
    pub fn with_size(self, width: Option<i64>, depth: Option<u32>) -> Result<Self, TracerError> {
        let width = width.unwrap_or(self.width);
        let depth = depth.unwrap_or(self.depth);
        if width % HEAD != 0 || !(HEAD..=MAX_WIDTH).contains(&width) {
            let reason =
                format!("is {width}, but heads have {HEAD} columns each; give a multiple, at most {MAX_WIDTH}");
            return Err(TracerError::Flag { flag: "--width", reason });
        }
        if !(1..=MAX_DEPTH).contains(&depth) {
            let reason = format!("is {depth}; give 1 to {MAX_DEPTH} layers");
            return Err(TracerError::Flag { flag: "--depth", reason });
        }
        Ok(Self { width, depth })
    }
}

struct Transformer {
    width: i64,
    embedding: Tensor,
    encoder: Vec<EncoderLayer>,
    encoder_norm: LayerNorm,
    decoder: Vec<DecoderLayer>,
    decoder_norm: LayerNorm,
}

pub fn transformer(root: &ModulePath, vocabulary: i64, size: TransformerSize) -> Box<dyn Model> {
    let TransformerSize { width, depth } = size;
    let init = Init::Normal((width as f64).powf(-0.5));
    let (embedding, _) = root.at("embedding").weight_and_bias(&[vocabulary, width], false, init);
    let path = root.at("transformer");
    let (encoder, decoder) = (path.at("encoder"), path.at("decoder"));
    Box::new(Transformer {
        width,
        embedding,
        encoder: (0..depth).map(|index| EncoderLayer::new(&encoder.at("layers").at(index), width)).collect(),
        encoder_norm: LayerNorm::new(&encoder.at("norm"), width),
        decoder: (0..depth).map(|index| DecoderLayer::new(&decoder.at("layers").at(index), width)).collect(),
        decoder_norm: LayerNorm::new(&decoder.at("norm"), width),
    })
}

impl Transformer {
    /// Adds embeddings and positions of tokens, `[samples, length]`.
    fn embed(&self, tokens: &Tensor, context: &mut Context) -> Tensor {
        let embedded = Tensor::embedding(&self.embedding, tokens, -1, false, false) * (self.width as f64).sqrt();
        let positions = positions(tokens.size()[1], self.width).to_device(tokens.device());
        (embedded + positions).dropout(DROPOUT, context.train)
    }

    fn encode(&self, source: &Tensor, context: &mut Context) -> Tensor {
        let mask = padding(source);
        let x = self.embed(source, context);
        self.encode_embedded(x, &mask, context)
    }

    fn encode_embedded(&self, mut x: Tensor, mask: &Tensor, context: &mut Context) -> Tensor {
        for layer in &self.encoder {
            x = layer.forward(&x, mask, context);
        }
        self.encoder_norm.forward(&x)
    }

    /// Computes the scores of the token after each target token, `[samples, target, vocabulary]`.
    fn decode(&self, mut x: Tensor, memory: &Tensor, masks: &Masks, context: &mut Context) -> Tensor {
        for layer in &self.decoder {
            x = layer.forward(&x, memory, masks, context);
        }
        let output = LinearLayer { name: "embedding".into(), weight: self.embedding.shallow_clone(), bias: None };
        output.apply(&self.decoder_norm.forward(&x), context)
    }
}

impl Model for Transformer {
    fn forward(&self, batch: &Batch, train: bool, tap: &mut dyn Tap) -> ModelOutput {
        let Batch::Text { source, target } = batch else { unreachable!("the task was checked against the model") };
        let context = &mut Context { train, tap };
        let given = target.narrow(1, 0, target.size()[1] - 1);
        let masks = Masks::new(source, &given);
        // Both embeddings come first, as with `torch.nn.Transformer`, so that dropout draws
        // equally.
        let (source, given) = (self.embed(source, context), self.embed(&given, context));
        let memory = self.encode_embedded(source, &masks.source, context);
        ModelOutput { scores: self.decode(given, &memory, &masks, context), auxiliary: Vec::new() }
    }

    fn translator(&self) -> Option<&dyn Translator> {
        Some(self)
    }
}

impl Translator for Transformer {
    fn translate(&self, source: &Tensor, begin: i64, end: i64, length: i64, tap: &mut dyn Tap) -> Tensor {
        let context = &mut Context { train: false, tap };
        let memory = self.encode(source, context);
        let mut target = Tensor::full([source.size()[0], 1], begin, (Kind::Int64, source.device()));
        let mut ended = target.eq(end);
        for _ in 0..length {
            let masks = Masks::new(source, &target);
            let x = self.embed(&target, context);
            let scores = self.decode(x, &memory, &masks, context);
            let best = scores.select(1, -1).argmax(-1, true).masked_fill(&ended, PAD);
            ended = ended.logical_or(&best.eq(end));
            target = Tensor::cat(&[target, best], 1);
            if ended.all().int64_value(&[]) == 1 {
                break;
            }
        }
        target.narrow(1, 1, target.size()[1] - 1)
    }
}

/// Computes the sinusoids of section 3.5, `[length, width]`.
fn positions(length: i64, width: i64) -> Tensor {
    let options = (Kind::Double, tch::Device::Cpu);
    let position = Tensor::arange(length, options).unsqueeze(1);
    let frequency = (Tensor::arange(width / 2, options) * (-2.0 * 10_000f64.ln() / width as f64)).exp();
    let angle = position * frequency;
    Tensor::stack(&[angle.sin(), angle.cos()], -1).reshape([length, width]).to_kind(Kind::Float)
}

/// Masks padding in keys `[samples, length]`: `[samples, 1, 1, length]`, true where it is padding.
fn padding(keys: &Tensor) -> Tensor {
    keys.eq(PAD).unsqueeze(1).unsqueeze(1)
}

struct Masks {
    source: Tensor,
    /// Padding and later tokens: `[samples, 1, length, length]`.
    target: Tensor,
}

impl Masks {
    fn new(source: &Tensor, target: &Tensor) -> Self {
        let length = target.size()[1];
        let later = Tensor::ones([length, length], (Kind::Bool, target.device())).triu(1);
        Self { source: padding(source), target: padding(target).logical_or(&later) }
    }
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    fn new(path: &ModulePath, width: i64) -> Self {
        let options = (Kind::Float, tch::Device::Cpu);
        let weight = path.parameter("weight", &[width], || Tensor::ones([width], options));
        Self { weight, bias: path.parameter("bias", &[width], || Tensor::zeros([width], options)) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), EPSILON, true)
    }
}

/// Multi-head attention (section 3.2.2). One matrix projects to queries, keys and values.
struct MultiHead {
    name: String,
    width: i64,
    weight: Tensor,
    bias: Tensor,
    out_proj: LinearLayer,
}

impl MultiHead {
    fn new(path: &ModulePath, width: i64) -> Self {
        let shape = [3 * width, width];
        let weight = path.parameter("in_proj_weight", &shape, || Init::XavierUniform.weight(&shape));
        let bias = path.parameter("in_proj_bias", &shape[..1], || Init::XavierUniform.bias(&shape));
        let out_proj = linear(&path.at("out_proj"), width, width, Init::XavierUniform);
        Self { name: path.name(), width, weight, bias, out_proj }
    }

    /// Makes a layer of `count` parts of the input projection, from part `first` on.
    fn projection(&self, name: &str, first: i64, count: i64) -> LinearLayer {
        LinearLayer {
            name: format!("{}.{name}", self.name),
            weight: self.weight.narrow(0, first * self.width, count * self.width),
            bias: Some(self.bias.narrow(0, first * self.width, count * self.width)),
        }
    }

    fn attend_to_self(&self, x: &Tensor, mask: &Tensor, context: &mut Context) -> Tensor {
        let projected = self.projection("in_proj", 0, 3).apply(x, context);
        let [query, key, value] = [0, 1, 2].map(|part| projected.narrow(-1, part * self.width, self.width));
        self.attend(&query, &key, &value, mask, context)
    }

    fn attend_to_memory(&self, x: &Tensor, memory: &Tensor, mask: &Tensor, context: &mut Context) -> Tensor {
        let query = self.projection("in_proj.q", 0, 1).apply(x, context);
        let projected = self.projection("in_proj.kv", 1, 2).apply(memory, context);
        let [key, value] = [0, 1].map(|part| projected.narrow(-1, part * self.width, self.width));
        self.attend(&query, &key, &value, mask, context)
    }

    fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: &Tensor, context: &mut Context) -> Tensor {
        let heads = |x: &Tensor| {
            let size = x.size();
            x.view([size[0], size[1], self.width / HEAD, HEAD]).transpose(1, 2)
        };
        let product = |product: &str| AttentionLayer { name: format!("{}.{product}", self.name) };
        let scores = context.tap.attention(&product("scores"), &heads(query), &heads(key));
        let scores = (scores / (HEAD as f64).sqrt()).masked_fill(mask, f64::NEG_INFINITY);
        let weights = scores.softmax(-1, scores.kind()).dropout(DROPOUT, context.train);
        let y = context.tap.attention(&product("context"), &weights, &heads(value).transpose(-2, -1));
        let y = y.transpose(1, 2).contiguous().view([query.size()[0], query.size()[1], self.width]);
        self.out_proj.apply(&y, context)
    }
}

/// The feed-forward network of section 3.3.
struct FeedForward {
    linear1: LinearLayer,
    linear2: LinearLayer,
}

impl FeedForward {
    fn new(path: &ModulePath, width: i64) -> Self {
        Self {
            linear1: linear(&path.at("linear1"), width, 4 * width, Init::XavierUniform),
            linear2: linear(&path.at("linear2"), 4 * width, width, Init::XavierUniform),
        }
    }

    fn forward(&self, x: &Tensor, context: &mut Context) -> Tensor {
        let inner = self.linear1.apply(x, context).relu().dropout(DROPOUT, context.train);
        self.linear2.apply(&inner, context)
    }
}

/// Applies dropout, the residual connection and normalisation to a sublayer's output.
fn join(x: &Tensor, output: &Tensor, norm: &LayerNorm, context: &Context) -> Tensor {
    norm.forward(&(x + output.dropout(DROPOUT, context.train)))
}

struct EncoderLayer {
    self_attn: MultiHead,
    feed_forward: FeedForward,
    norms: [LayerNorm; 2],
}

impl EncoderLayer {
    fn new(path: &ModulePath, width: i64) -> Self {
        Self {
            self_attn: MultiHead::new(&path.at("self_attn"), width),
            feed_forward: FeedForward::new(path, width),
            norms: ["norm1", "norm2"].map(|name| LayerNorm::new(&path.at(name), width)),
        }
    }

    fn forward(&self, x: &Tensor, mask: &Tensor, context: &mut Context) -> Tensor {
        let x = join(x, &self.self_attn.attend_to_self(x, mask, context), &self.norms[0], context);
        join(&x, &self.feed_forward.forward(&x, context), &self.norms[1], context)
    }
}

struct DecoderLayer {
    self_attn: MultiHead,
    multihead_attn: MultiHead,
    feed_forward: FeedForward,
    norms: [LayerNorm; 3],
}

impl DecoderLayer {
    fn new(path: &ModulePath, width: i64) -> Self {
        Self {
            self_attn: MultiHead::new(&path.at("self_attn"), width),
            multihead_attn: MultiHead::new(&path.at("multihead_attn"), width),
            feed_forward: FeedForward::new(path, width),
            norms: ["norm1", "norm2", "norm3"].map(|name| LayerNorm::new(&path.at(name), width)),
        }
    }

    fn forward(&self, x: &Tensor, memory: &Tensor, masks: &Masks, context: &mut Context) -> Tensor {
        let x = join(x, &self.self_attn.attend_to_self(x, &masks.target, context), &self.norms[0], context);
        let attended = self.multihead_attn.attend_to_memory(&x, memory, &masks.source, context);
        let x = join(&x, &attended, &self.norms[1], context);
        join(&x, &self.feed_forward.forward(&x, context), &self.norms[2], context)
    }
}
