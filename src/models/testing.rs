//! A small batch for the tests of models, and the layers of a model on padded grids, as OpenVQA computes them.

use super::{Network, Sizes, family};
use crate::config::{Keys, ModelValues};
use crate::data::streams::{BoxUnit, Padding, StreamSpec, Streams};
use crate::data::{Batch, Convention, FeatureRows, Values};
use crate::nn::packed::{PackedBatch, Packer, StreamSource};
use crate::nn::pass::Pass;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

pub(super) const WORDS: usize = 8;
pub(super) const ANSWERS: usize = 3;
/// N and F
const ROWS: usize = 4;
const WIDTH: usize = 5;

/// The kind of image features of the data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Features {
    Regions,
    RegionsWithBoxes,
    Grid,
}

impl Features {
    fn streams(self) -> Streams {
        let stream = StreamSpec {
            padded_to: ROWS,
            width: WIDTH,
            boxes: (self == Features::RegionsWithBoxes).then_some(BoxUnit::Pixels),
        };
        let is_grid = self == Features::Grid;
        Streams {
            regions: (!is_grid).then_some(stream),
            grid: is_grid.then_some(stream),
        }
    }
}

pub(super) fn values<K: Keys>(family: &str, keys: &K) -> ModelValues {
    let mut values = ModelValues::default();
    values.family = family.into();
    values.set_keys(keys).unwrap();
    values
}

pub(super) fn network(values: &ModelValues, features: Features) -> Network {
    let sizes = Sizes {
        words: WORDS,
        answers: ANSWERS,
        streams: features.streams(),
        convention: Convention::OpenVqa,
    };
    Network::new(values, &sizes, 1, Device::Cpu).unwrap()
}

/// Values of features, without a pattern.
fn numbers(of: Range<i32>) -> Vec<f32> {
    of.map(|i| (i as f32 * 0.7).sin()).collect()
}

/// Corners of regions in pixels.
fn boxes(of: Range<i32>) -> Vec<f32> {
    let corner = |i: i32| [7 * i, 3 * i, 9 * i + 20, 40 + i * i].map(|x| x as f32);
    of.flat_map(corner).collect()
}

/// Two questions about an image of 2 rows, and one about an image of 4. Where padding is observed, one row stands for the 2
/// rows of padding of the first image.
fn batch(features: Features, padding: Padding) -> Batch {
    let row = match padding {
        Padding::Observed => 1,
        Padding::Masked | Padding::MaskedAlways => 0,
    };
    let rows = FeatureRows {
        values: Values::F32([numbers(0..10), vec![0.0; row * WIDTH], numbers(10..30)].concat()),
        boxes: (features == Features::RegionsWithBoxes)
            .then(|| [boxes(0..2), vec![0.0; row * 4], boxes(2..6)].concat()),
        counts: vec![2 + row, 4],
        all_padding: vec![false, false],
        multiplicity: (row == 1).then(|| vec![1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0]),
        padded_to: ROWS,
    };
    let (regions, grid) = match features {
        Features::Grid => (None, Some(rows)),
        _ => (Some(rows), None),
    };
    Batch {
        samples: vec![0, 1, 2],
        image_ids: vec![10.into(), 20.into()],
        image_of: vec![0, 0, 1],
        regions,
        grid,
        words: vec![4, 5, 6, 7, 3],
        word_counts: vec![3, 1, 1],
        no_words: vec![false; 3],
        words_padded_to: 4,
        targets: Vec::new(),
    }
}

pub(super) fn packed(features: Features, padding: Padding) -> PackedBatch {
    let source = || StreamSource {
        feature_size: WIDTH,
        table: None,
    };
    let is_grid = features == Features::Grid;
    let packer = Packer {
        device: Device::Cpu,
        pin_mem: false,
        answers: ANSWERS,
        regions: (!is_grid).then(source),
        grid: is_grid.then(source),
    };
    packer.pack(batch(features, padding)).unwrap()
}

/// The layers of a network, on padded grids: B = 3 questions of T = 4 words, and N = 4 rows of each one's image.
pub(super) struct Plain {
    of: BTreeMap<String, Tensor>,
}

impl Plain {
    fn new(net: &Network, values: &ModelValues) -> Plain {
        let canonical = family(values).unwrap().canonical_name;
        let names = net.parameters.names.iter().map(|name| canonical(name));
        let tensors = net.parameters.tensors.iter().map(Tensor::shallow_clone);
        Plain {
            of: names.zip(tensors).collect(),
        }
    }

    pub(super) fn get(&self, name: &str) -> &Tensor {
        &self.of[name]
    }

    /// W x + b
    pub(super) fn linear(&self, x: &Tensor, name: &str) -> Tensor {
        x.matmul(&self.get(&format!("{name}.weight")).tr()) + self.get(&format!("{name}.bias"))
    }

    /// W x + b, where W has weight norm.
    pub(super) fn normed(&self, x: &Tensor, name: &str) -> Tensor {
        x.matmul(&self.with_norm(&format!("{name}.weight")).tr())
            + self.get(&format!("{name}.bias"))
    }

    /// g v / ‖v‖
    pub(super) fn with_norm(&self, name: &str) -> Tensor {
        let [g, v] = ["g", "v"].map(|part| self.get(&format!("{name}_{part}")));
        v * g / v.norm()
    }

    /// W₂ ReLU(W₁ x)
    pub(super) fn mlp(&self, x: &Tensor, name: &str) -> Tensor {
        let hidden = self.linear(x, &format!("{name}.fc.linear")).relu();
        self.linear(&hidden, &format!("{name}.linear"))
    }

    /// (B, T) whether a position of a question is padding.
    pub(super) fn word_mask(&self) -> Tensor {
        self.word_ids().eq(0)
    }

    fn word_ids(&self) -> Tensor {
        Tensor::from_slice(&[4i64, 5, 6, 0, 7, 0, 0, 0, 3, 0, 0, 0]).view([3, 4])
    }

    /// (B, T, E)
    pub(super) fn embedded(&self) -> Tensor {
        let rows = self
            .get("embedding.weight")
            .index_select(0, &self.word_ids().view([-1]));
        rows.view([3, 4, -1])
    }

    fn recurrent(&self, name: &str) -> ([&Tensor; 4], Tensor) {
        let weights = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
            .map(|weight| self.get(&format!("{name}.{weight}")));
        let hidden = weights[1].size()[1];
        (
            weights,
            Tensor::zeros([1, 3, hidden], (Kind::Float, Device::Cpu)),
        )
    }

    /// (B, T, D) outputs of an LSTM.
    pub(super) fn lstm(&self, x: &Tensor, name: &str) -> Tensor {
        let (weights, zero) = self.recurrent(name);
        let (out, ..) = x.lstm(&[&zero, &zero], &weights, true, 1, 0.0, false, false, true);
        out
    }

    /// (B, T, D) outputs of a GRU.
    pub(super) fn gru(&self, x: &Tensor, name: &str) -> Tensor {
        let (weights, zero) = self.recurrent(name);
        let (out, _) = x.gru(&zero, &weights, true, 1, 0.0, false, false, true);
        out
    }

    /// (B, N, F)
    pub(super) fn features(&self) -> Tensor {
        self.padded(numbers(0..30), WIDTH)
    }

    /// (B, N, 4)
    pub(super) fn boxes(&self) -> Tensor {
        self.padded(boxes(0..6), 4)
    }

    /// (B, N) whether a row is padding.
    pub(super) fn row_mask(&self) -> Tensor {
        self.features()
            .abs()
            .sum_dim_intlist([2i64].as_slice(), false, Kind::Float)
            .eq(0)
    }

    /// Rows of both images, for each question.
    fn padded(&self, rows: Vec<f32>, width: usize) -> Tensor {
        let rows = Tensor::from_slice(&rows).view([6, width as i64]);
        let first = rows.narrow(0, 0, 2).constant_pad_nd([0, 0, 0, 2]);
        let second = rows.narrow(0, 2, 4);
        Tensor::stack(&[&first, &first, &second], 0)
    }
}

/// Checks that a network without dropout computes the same logits as `plain`, and the same gradients of all parameters.
pub(super) fn assert_computes(
    values: &ModelValues,
    features: Features,
    padding: Padding,
    plain: impl Fn(&Plain) -> Tensor,
) {
    let net = network(values, features);
    let layers = Plain::new(&net, values);
    let pass = Pass::training(Kind::Float, 1, 1, Device::Cpu).unwrap();
    let ours = net.forward(&packed(features, padding), &pass).unwrap();
    let (ours, gradients) = (ours.detach(), gradients(&net, &ours));
    let theirs = plain(&layers);
    assert!(
        apart(&ours, &theirs) < 1e-5,
        "{features:?}: {}",
        apart(&ours, &theirs)
    );
    let expected = self::gradients(&net, &theirs);
    for ((name, ours), theirs) in net.parameters.names.iter().zip(&gradients).zip(&expected) {
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            assert!(ours.is_none() && theirs.is_none(), "{name}");
            continue;
        };
        let limit = 1e-5 + 1e-4 * theirs.abs().max().double_value(&[]);
        assert!(
            apart(ours, theirs) < limit,
            "{name}: {}",
            apart(ours, theirs)
        );
    }
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// The gradients of a weighted sum of the logits; none of a parameter that takes no part.
fn gradients(net: &Network, logits: &Tensor) -> Vec<Option<Tensor>> {
    let weights = Tensor::from_slice(&numbers(50..50 + 3 * ANSWERS as i32)).view_as(logits);
    (logits * weights).sum(Kind::Float).backward();
    let parameters = net.parameters.tensors.iter();
    let gradients = parameters.map(|parameter| {
        let mut gradient = parameter.grad();
        let copy = gradient.defined().then(|| gradient.copy());
        if gradient.defined() {
            let _ = gradient.zero_();
        }
        copy
    });
    gradients.collect()
}
