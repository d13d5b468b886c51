//! A pass of a layer: the streamed operand, its outcomes, and the results.

use crate::Room;
use mercury_hardware::config::Config;
use mercury_hardware::timed;
use mercury_reuse::{Counts, Outcomes, Substitutes, VectorView, views};
use mercury_trace::geometry::{Geometry, Pass};

/// The operand that a pass streams: X, or dY in the input gradient.
#[derive(Debug, Clone, Copy)]
pub struct Streamed<'a> {
    values: &'a [f32],
    samples: usize,
    channels: usize,
}

impl<'a> Streamed<'a> {
    /// Takes the values of `samples` samples.
    ///
    /// # Panics
    /// If their number is not that of the layer's operand.
    pub fn new(geometry: &Geometry, pass: Pass, values: &'a [f32], samples: usize) -> Self {
        let gives_dy = pass == Pass::InputGrad;
        let (channels, length) = match geometry {
            Geometry::Conv2d(conv) if gives_dy => (conv.out_channels, conv.out_channels as usize * area(conv.output())),
            Geometry::Conv2d(conv) => (conv.in_channels, conv.in_channels as usize * area(conv.input)),
            Geometry::Linear(linear) => {
                let features = if gives_dy { linear.out_features } else { linear.in_features };
                (1, linear.rows as usize * features as usize)
            }
            Geometry::Matmul(matmul) => {
                let length = if gives_dy { matmul.columns } else { matmul.inner };
                (1, matmul.heads as usize * matmul.rows as usize * length as usize)
            }
        };
        assert_eq!(values.len(), samples * length, "values of the streamed operand");
        Self { values, samples, channels: channels as usize }
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Number of values.
    pub(crate) fn length(&self) -> usize {
        self.values.len()
    }

    fn views(&self, geometry: &Geometry, pass: Pass, config: &Config) -> Vec<VectorView<'a>> {
        views(geometry, pass, config.rpq.granularity, self.values, self.samples, self.channels)
    }
}

/// Elements of a plane.
pub(crate) fn area([height, width]: [u32; 2]) -> usize {
    height as usize * width as usize
}

/// The outcomes of a pass's vectors, by product.
#[derive(Debug, Clone)]
pub struct PassOutcomes(Vec<Outcomes>);

impl PassOutcomes {
    /// Signs and looks up the vectors of the forward pass or the input gradient.
    pub fn new(config: &Config, geometry: &Geometry, pass: Pass, streamed: &Streamed) -> Self {
        let scope = config.mcache.effective_scope(geometry);
        let look_up = |view: &VectorView| Outcomes::sign_and_look_up(view, &config.rpq, &config.mcache, scope);
        Self(streamed.views(geometry, pass, config).iter().map(look_up).collect())
    }

    /// Counts the vectors by outcome.
    pub fn counts(&self) -> Counts {
        self.0.iter().flat_map(Outcomes::counts).copied().sum()
    }

    /// The outcomes, by product.
    pub fn products(&self) -> &[Outcomes] {
        &self.0
    }
}

/// A layer's pass over a streamed operand with known outcomes.
#[derive(Debug, Clone, Copy)]
pub struct Reuse<'a> {
    /// The configuration with the signature length in force.
    pub config: &'a Config,
    /// The layer.
    pub geometry: &'a Geometry,
    /// X; dY in the input gradient.
    pub streamed: Streamed<'a>,
    /// The outcomes of its vectors.
    pub outcomes: &'a PassOutcomes,
}

impl Reuse<'_> {
    /// Computes Y without bias.
    ///
    /// # Panics
    /// If W or `y` has not the layer's size.
    pub fn forward(&self, w: &[f32], y: &mut [f32], room: &mut Room) {
        match self.geometry {
            Geometry::Conv2d(conv) => self.convolve(conv, w, y, room),
            Geometry::Linear(linear) => self.multiply_rows(linear, w, y, room),
            Geometry::Matmul(matmul) => self.multiply_activations(matmul, w, y, room),
        }
    }

    /// Computes dX; the streamed operand is dY.
    ///
    /// # Panics
    /// If W or `dx` has not the layer's size.
    pub fn input_grad(&self, w: &[f32], dx: &mut [f32], room: &mut Room) {
        match self.geometry {
            Geometry::Conv2d(conv) => self.convolve_back(conv, w, dx, room),
            Geometry::Linear(linear) => self.multiply_rows_back(linear, w, dx, room),
            Geometry::Matmul(matmul) => self.multiply_activations_back(matmul, w, dx, room),
        }
    }

    /// Computes dW from the forward pass's vectors and outcomes; the streamed operand is X.
    ///
    /// # Panics
    /// If dY or `dw` has not the layer's size.
    pub fn weight_grad(&self, dy: &[f32], dw: &mut [f32], room: &mut Room) {
        match self.geometry {
            Geometry::Conv2d(conv) => self.correlate(conv, dy, dw, room),
            Geometry::Linear(linear) => self.sum_rows(linear, dy, dw, room),
            Geometry::Matmul(matmul) => self.multiply_gradients(matmul, dy, dw, room),
        }
    }

    /// Counts the cycles of a pass on the configuration's array: without reuse, with reuse.
    pub fn cycles(&self, pass: Pass) -> [u64; 2] {
        let products: Vec<_> = self.substituted(pass).collect();
        let samples = self.streamed.samples as u32;
        let (baseline, mercury) = timed::cycles(self.config, self.geometry, pass, samples, &products);
        [baseline, mercury.total()]
    }

    /// The vectors of each product with their outcomes.
    pub(crate) fn substituted(&self, pass: Pass) -> impl Iterator<Item = (VectorView<'_>, &Outcomes)> {
        self.streamed.views(self.geometry, pass, self.config).into_iter().zip(&self.outcomes.0)
    }

    /// What each vector of a product is replaced by.
    pub(crate) fn substitutes<'v>(&self, view: &'v VectorView<'v>, outcomes: &'v Outcomes) -> Substitutes<'v, 'v> {
        Substitutes::new(view, outcomes, self.config.rpq.variant, self.config.mcache.representative)
    }
}
