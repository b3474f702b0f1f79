//! `mcan` trains and evaluates models that answer questions about images, on data sets such as VQA-v2 and CLEVR.
//!
//! The binary is small: it parses the command line, resolves the configuration and calls [`run::run`]. Everything else
//! is in this library and in `mcan-data`, so that tests reach it. Data flows in one direction, and networks compute on
//! packed sequences, without padding, from the loader on.
//!
//! # The house
//!
//! Every room knows only rooms below it. `crates/mcan-data/tests/house.rs` fails when an import breaks that.
//!
//! ```text
//! main         parse, resolve, run, exit status
//! cli          the command line, made from the table of keys
//! run          plan, preflight, inputs, prefetch, train {trainer, listeners, resume}, predict, val, test, score, pack, demo
//! report       log, progress, profile
//! distributed  replicas on several devices and in several processes
//! models       trait Model, FAMILIES; mcan, butd: equations
//! nn           ops (the one place that chooses kernels), layers, loss, optim, packed, ragged, parameters, pass
//! checkpoint   the entries of a checkpoint: state dict, optimizer state, run state
//! native       C++: kernels, and functions of libtorch that tch does not bind; its Rust side
//! ------------ the wall: package mcan-data, without libtorch ------------
//! config       one table of keys; resolve; the files of a run
//! datasets     trait Benchmark, BENCHMARKS; vqa2, clevr, described, demo: each with its files and its metric
//! data         ids, streams, samples, vocabulary, answers, features, loader, word vectors, packing
//! formats      npy, npz, tar, json, pickle, pt (PyTorch's files), banks
//! text         words of a question, normal form of an answer
//! base         atomic files, memory maps, locks, error texts, output
//! ```
//!
//! Nevers: `datasets` knows no model and no configuration; `models` knows no data set; `nn` knows no configuration;
//! `formats` knows only `base`; only `main` knows `cli`.
//!
//! # Glossary
//!
//! - *Packed rows*: the rows of all sequences of a batch below each other, without padding.
//! - *Ragged*: sequences of different lengths as packed rows.
//! - *Stream*: a kind of image features. *Regions* are boxes of a detector, a *grid* has the cells of a feature map.
//! - *Bank*: the features of all images of a split in one file.
//! - *Micro-batch*: the questions that go through the network at once; a step adds the gradients of `--ACCU` of them.
//! - *Family*: a kind of model, such as MCAN, with its keys. *Benchmark*: a data set with its metric.
//! - *Plan*: everything that is settled before a run starts. *Replica*: a copy of the network on one device.
//! - *Matmul dtype*: the dtype of the factors of matrix products, float32 or bfloat16.
//! - *The reference*: MILVLG/mcan-vqa. *OpenVQA*: MILVLG/openvqa, its successor.
//!
//! # Where the equations are
//!
//! Numbers are those of "Deep Modular Co-Attention Networks for Visual Question Answering" (Yu et al., CVPR 2019). X is
//! the image; Y is the question, which guides X.
//!
//! | equation | here |
//! |---|---|
//! | A, scaled dot-product attention (eq. 1); packed attention on CPU and GPU | [`nn::ops::attention`] |
//! | MHAtt, multi-head attention (eq. 2, 3) | [`nn::layers::MhAtt`] |
//! | SA(Y), SGA(X, Y) and their cascade (eq. 4) | `models/mcan/units.rs` |
//! | AttFlat, the pooling of a sequence (eq. 5) | [`nn::layers::AttFlat`], [`nn::ops::weighted_sum`] |
//! | fusion and classifier (eq. 6) | `forward` in `models/mcan/mod.rs` |
//! | feed-forward network; layer norm with residual connection | [`nn::layers::Mlp`]; [`nn::ops::add_norm`] |
//! | loss | [`nn::loss`] |
//! | learning rate; Adam, Adamax | [`nn::optim::Schedule`]; [`nn::optim::Optimizer`] |
//! | packed sequences: layout, pad and unpad | [`nn::ragged`] |
//! | VQA accuracy; soft targets | [`datasets::vqa2`]; [`data::answers`] |
//! | BUTD | `models/butd.rs` |
//!
//! # Where things of the reference are
//!
//! | reference | here |
//! |---|---|
//! | `run.py` | [`cli`], `main.rs` |
//! | `cfgs/base_cfgs.py`, `cfgs/path_cfgs.py` | [`config`] |
//! | `cfgs/*_model.yml` | `configs/*_model.yml` |
//! | `core/exec.py` | [`run`], [`report`] |
//! | `core/data/load_data.py` | [`data`], [`run::inputs`] |
//! | `core/data/data_utils.py` | [`text`], [`data::vocab`], [`data::answers`], [`datasets::vqa2`], [`formats::npz`], [`data::embeddings`] |
//! | `core/data/ans_punct.py` | [`text`] |
//! | `core/data/answer_dict.json`, `utils/proc_ansdict.py` | [`data::answers`], [`datasets::vqa2`] |
//! | `core/model/net.py`, `core/model/mca.py` | [`models::mcan`], [`nn::layers`] |
//! | `core/model/net_utils.py` | [`nn::layers`], [`nn::ops`] |
//! | `core/model/optim.py` | [`nn::optim`] |
//! | `utils/vqa.py`, `utils/vqaEval.py` | [`datasets::vqa2`], [`text`] |
//! | `setup.sh` | `setup.sh`, `--RUN=pack` |
//! | `torch.save`, `torch.load` | [`formats::pickle`], [`formats::pt`], [`checkpoint`] |

// A user's file or flag never ends the program with a panic; tests may.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unreachable
    )
)]

pub mod checkpoint;
pub mod cli;
pub mod distributed;
pub mod models;
pub mod native;
pub mod nn;
pub(crate) mod report;
pub mod run;

pub use mcan_data::{base, config, data, datasets, formats, note, say, text};
