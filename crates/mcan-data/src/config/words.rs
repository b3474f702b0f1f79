//! The types of values of keys: words, and the values of some keys of OpenVQA.

use super::table::{KeyType, Kind};
use crate::datasets::Measure;
use crate::words;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

words! {
    /// What to do.
    pub enum RunMode {
        /// Train, and evaluate the val split after each epoch when it is not trained on.
        Train = "train",
        /// Answer the val split with a checkpoint and print its accuracy.
        Val = "val",
        /// Answer the test split with a checkpoint and write the file for EvalAI.
        Test = "test",
        /// Pack the image features of each split into one memory-mapped file.
        Pack = "pack",
        /// Score an answer file against questions and annotations, without a model.
        Score = "score",
        /// Make a small learnable dataset, train on it, evaluate and answer its test split.
        Demo = "demo",
    }
}

words! {
    /// Arithmetic of the matrix products.
    pub enum Amp {
        /// float32 throughout.
        Off = "off",
        /// bfloat16 products; weights, optimizer, norms, softmax and loss stay float32.
        Bf16 = "bf16",
    }
}

words! {
    /// Order of the training questions.
    pub enum ShuffleMode {
        /// A new random order each epoch.
        External = "external",
        /// The same as `external`. In the reference the loader of PyTorch draws the order.
        Internal = "internal",
        /// File order, which the reference lacks.
        None = "none",
    }
}

words! {
    /// Number format of a packed bank.
    pub enum BankDtype {
        /// Half precision: half the size.
        F16 = "f16",
        /// Single precision: the exact values.
        F32 = "f32",
    }
}

words! {
    /// The loss.
    pub enum LossFunc {
        /// The loss of the data set.
        OfDataset = "",
        /// Binary cross-entropy with logits.
        Bce = "bce",
        /// Cross-entropy.
        Ce = "ce",
        /// Kullback-Leibler divergence from the annotators' answers.
        Kld = "kld",
    }
}

words! {
    /// How the losses of a batch become one number.
    pub enum LossReduction {
        /// Their sum.
        Sum = "sum",
        /// Their mean: of cross-entropies over the questions, of other losses over questions and answers.
        Mean = "mean",
    }
}

words! {
    /// The optimizer.
    pub enum Opt {
        /// Adam with the parameters of the reference.
        Reference = "",
        /// Adam.
        Adam = "Adam",
        /// Adamax.
        Adamax = "Adamax",
    }
}

words! {
    /// A signal that can ask a run to stop, besides INT, TERM and HUP, which always do.
    pub enum StopSignal {
        /// Slurm and other schedulers send it before the time limit, if they are told to.
        Usr1 = "USR1",
        /// For a user's own purposes.
        Usr2 = "USR2",
        /// Ctrl-\\ in a terminal.
        Quit = "QUIT",
        /// The time limit of a timer.
        Alrm = "ALRM",
        /// The limit of processor time; a scheduler may set it.
        Xcpu = "XCPU",
    }
}

words! {
    /// What an answer is worth, where annotators differ.
    pub enum Accuracy {
        /// The measure of the challenge of the data set.
        Official = "official",
        /// 1 for the answer that most annotators gave, else 0.
        Exact = "exact",
        /// The share of annotators who gave the answer.
        Share = "share",
    }
}

impl From<Accuracy> for Measure {
    fn from(accuracy: Accuracy) -> Measure {
        match accuracy {
            Accuracy::Official => Measure::Official,
            Accuracy::Exact => Measure::Exact,
            Accuracy::Share => Measure::Share,
        }
    }
}

impl From<Measure> for Accuracy {
    fn from(measure: Measure) -> Accuracy {
        match measure {
            Measure::Official => Accuracy::Official,
            Measure::Exact => Accuracy::Exact,
            Measure::Share => Accuracy::Share,
        }
    }
}

/// The signals that also ask a run to stop, written as `USR1` or `USR1,USR2`, with or without `SIG`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopSignals(pub Vec<StopSignal>);

impl KeyType for StopSignals {
    const KIND: Kind = Kind::Text;
}

impl Serialize for StopSignals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names: Vec<&str> = self.0.iter().map(|signal| signal.word()).collect();
        serializer.serialize_str(&names.join(","))
    }
}

impl<'de> Deserialize<'de> for StopSignals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let signal = |name: &str| {
            let upper = name.to_uppercase();
            let short = upper.strip_prefix("SIG").unwrap_or(&upper);
            let known = StopSignal::deserialize(de::value::StrDeserializer::<D::Error>::new(short));
            let words = StopSignal::WORDS.join(", ");
            known.map_err(|_| de::Error::custom(format_args!("{name} is none of {words}")))
        };
        names.map(signal).collect::<Result<_, _>>().map(StopSignals)
    }
}

/// The place where a run holds its features, written `false`, `true` or `gpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preload {
    /// Nowhere: they are read for each batch.
    No,
    /// In the memory of the machine.
    Host,
    /// On the device, in half precision.
    Device,
}

impl KeyType for Preload {
    const KIND: Kind = Kind::BoolOr(&["gpu"]);
}

impl Serialize for Preload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Preload::No => serializer.serialize_bool(false),
            Preload::Host => serializer.serialize_bool(true),
            Preload::Device => serializer.serialize_str("gpu"),
        }
    }
}

impl<'de> Deserialize<'de> for Preload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Preload;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("True, False or gpu")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Preload, E> {
                Ok(if value { Preload::Host } else { Preload::No })
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Preload, E> {
                match value {
                    "gpu" => Ok(Preload::Device),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// `FEAT_SIZE` of OpenVQA: for each data set, the number and the width of the vectors of each kind of feature, such as
/// `{vqa: {FRCN_FEAT_SIZE: [100, 2048]}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FeatSize(pub BTreeMap<String, BTreeMap<String, (usize, usize)>>);

impl KeyType for FeatSize {
    const KIND: Kind = Kind::Other("sizes of each kind of feature, by data set");
}

/// The kinds of features that OpenVQA knows. The size of a box is used nowhere.
const FEATURE_KINDS: [&str; 3] = ["FRCN_FEAT_SIZE", "GRID_FEAT_SIZE", "BBOX_FEAT_SIZE"];

/// The most vectors of an image.
const MOST_VECTORS: usize = 1 << 13;
/// The most values of a vector.
const MOST_VALUES: usize = 1 << 20;

impl<'de> Deserialize<'de> for FeatSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let named: BTreeMap<String, BTreeMap<String, Value>> =
            Deserialize::deserialize(deserializer)?;
        let mut sizes = FeatSize::default();
        for (dataset, kinds) in named {
            let of_dataset = sizes.0.entry(dataset.clone()).or_default();
            for (kind, given) in kinds {
                let size = feature_size(&kind, &given);
                let wrong = |reason| de::Error::custom(format_args!("{dataset}: {reason}"));
                of_dataset.insert(kind, size.map_err(wrong)?);
            }
        }
        Ok(sizes)
    }
}

/// The number and the width of the vectors of a kind of features; else what is wrong.
fn feature_size(kind: &str, given: &Value) -> Result<(usize, usize), String> {
    if !FEATURE_KINDS.contains(&kind) {
        return Err(format!(
            "there is no {kind}, only {}",
            FEATURE_KINDS.join(", ")
        ));
    }
    let number = |value: &Value, most: usize| {
        let number = usize::try_from(value.as_u64()?).ok()?;
        Some(number).filter(|number| (1..=most).contains(number))
    };
    let size = match given.as_array().map(Vec::as_slice) {
        Some([vectors, values]) => number(vectors, MOST_VECTORS).zip(number(values, MOST_VALUES)),
        _ => None,
    };
    size.ok_or_else(|| {
        format!(
            "{kind} must be a list of two whole numbers: vectors, from 1 to {MOST_VECTORS}, and values of a vector, from 1 to \
             {MOST_VALUES}"
        )
    })
}

impl FeatSize {
    /// The number and the width of the feature vectors of an image of `dataset`: of its regions, else of its grid.
    pub(crate) fn of(&self, dataset: &str) -> Option<(usize, usize)> {
        let sizes = self.0.get(dataset)?;
        sizes
            .get("FRCN_FEAT_SIZE")
            .or_else(|| sizes.get("GRID_FEAT_SIZE"))
            .copied()
    }
}

/// `OPT_PARAMS` of OpenVQA: arguments of the optimizer, as texts of Python numbers and tuples of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptParams(pub BTreeMap<String, String>);

impl KeyType for OptParams {
    const KIND: Kind = Kind::Other("arguments of the optimizer, as texts");
}
