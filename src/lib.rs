//! `mcan` trains and evaluates Deep Modular Co-Attention Networks (Yu et al., CVPR 2019) on VQA-v2.
//!
//! The binary is thin: it parses the command line, resolves the configuration and calls [`engine::run`]. All else is
//! in this library, so that tests reach it. There is one data path, in one direction, and each room knows only those to
//! its left; the network computes on packed sequences, without padding, from the loader on.
//!
//! # Code map
//!
//! ```text
//! cli -> config -> paths
//!                    \
//! text -> data (vqa, vocab, answers, glove, npz, bank, features) -> loader -> model -> engine (train, predict)
//!                                                                                    /         |
//!                                                          optimizer, checkpoint      evaluation -> report
//!
//! main.rs         parse, resolve, run, exit status
//! cli.rs          what was typed; no I/O
//! config/         defaults (keys), YAML, --SET and flags (layers) -> a validated Config {model, data, train, run}
//! paths.rs        where every file is, and the check before a run
//! text/           words of a question; normal form of an answer (evaluation and targets share it); contractions
//! data/           Split, Sample, Batch
//!   vqa/          question and annotation files, plain or zipped
//!   vocab.rs      words of a model        answers.rs   answers of a model, targets
//!   dataset.rs    the questions of a run  features/    the features of a run: npz/ (files), bank/ (and its packing)
//!   loader/       batches, in order, from worker threads
//!   glove/        word vectors: spaCy's package and tokenizer, GloVe text
//!   members.rs    tar archives, with limits     demo/   the made-up world
//! model/          the net: layers, attention, packed (batches on a device), parcel, table, parameters, shapes
//! optimizer/      adam, schedule (a pure function of step and epoch)
//! checkpoint/     load and save: pickle/, archive/ (zip, legacy), tensor, state_dict, optimizer_state, run_state
//! evaluation/     metric, results (answer files, probabilities), score
//! engine/         one entry per --RUN: train, val and test (predict), pack, score, demo; inputs, feed, glove, watch,
//!                 stop
//! report/         log, progress
//! distributed/    the replicas of a run: devices, job (what a launcher says), replica
//! explain.rs      failures in words               voice.rs   who speaks
//! atomic.rs       files that are whole or absent      mapped.rs  files in memory
//! outputs.rs      what a run writes: that it can, and that it loses nothing      lock.rs   one run per version
//! native/         the C++ that tch does not bind, and its Rust face: kernels for the CPU; varlen (attention of a GPU),
//!                 device (streams, copies, seeds), group (replicas), random, weights; gloo/ (names that a header
//!                 mentions); testing
//! ```
//!
//! # Where things of the reference are
//!
//! The reference is `run.py` of MILVLG/mcan-vqa.
//!
//! | reference | here |
//! |---|---|
//! | `run.py` | [`cli`], `main.rs` |
//! | `cfgs/base_cfgs.py` | [`config`] |
//! | `cfgs/path_cfgs.py` | [`config`] (folders), [`paths`] (files) |
//! | `cfgs/*_model.yml` | `configs/*_model.yml` |
//! | `core/exec.py` | [`engine`], [`report`] |
//! | `core/data/load_data.py` | [`data`]: [`data::dataset`], [`data::loader`], [`engine::inputs`] |
//! | `core/data/data_utils.py` | [`text`], [`data::vocab`], [`data::answers`], [`data::npz`], [`data::glove`] |
//! | `core/data/ans_punct.py` | [`text`] |
//! | `core/data/answer_dict.json`, `utils/proc_ansdict.py` | [`data::answers`] |
//! | `core/model/net.py` | [`model`] |
//! | `core/model/mca.py` | [`model::attention`] |
//! | `core/model/net_utils.py` | [`model::layers`] |
//! | `core/model/optim.py` | [`optimizer`] |
//! | `utils/vqa.py` | [`data::vqa`] |
//! | `utils/vqaEval.py` | [`evaluation`], [`text`] |
//! | `setup.sh` | `setup.sh`, `--RUN=pack` |
//! | `torch.save`, `torch.load` | [`checkpoint`] |

// A user's file or flag never ends the program with a panic; tests may.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

pub mod checkpoint;
pub mod cli;
pub mod distributed;
pub mod models;
pub mod native;
pub mod nn;
pub mod report;
pub mod run;

pub use mcan_data::{base, config, data, datasets, formats, note, say, text};
