//! Everything that a run reads before it can start: questions, annotations, vocabulary, answers, features.

use crate::checkpoint::RunState;
use crate::config::RunMode;
use crate::config::paths::Source;
use crate::config::{Config, Preload};
use crate::data::answers::AnswerList;
use crate::data::features::Features;
use crate::data::vocab::Vocabulary;
use crate::data::{Dataset, Split};
use crate::datasets::vqa2::Evaluator;
use crate::datasets::vqa2::{self, AnnotationFile, QuestionFile};
use crate::distributed::Replica;
use crate::formats::json::locate;
use crate::models::mcan::Net;
use crate::nn::packed::Packer;
use crate::nn::table::Table;
use crate::report::Progress;
use anyhow::{Context, Result, bail, ensure};
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tch::Device;

/// Questions and their features.
pub struct Task {
    /// The questions.
    pub dataset: Arc<Dataset>,
    /// The features of all their images.
    pub features: Arc<Features>,
    /// Where those are on the device, with `--PRELOAD=gpu`.
    pub table: Option<Table>,
}

/// What a run works on.
pub struct Inputs {
    /// Words of the model.
    pub vocabulary: Vocabulary,
    /// Answers of the model.
    pub answers: AnswerList,
    /// What to train on, in a training run.
    pub training: Option<Task>,
    /// What to answer: val, or a test split.
    pub answering: Option<Task>,
    /// Scores the answers, when they are about val.
    pub evaluator: Option<Evaluator>,
}

impl Inputs {
    /// Reads what `config` asks for; `carried` is the entry of a checkpoint that brings its own words and answers.
    /// `replicas` have the devices where features are held, if the run holds them there; the first of all saves the
    /// answers that it counts.
    ///
    /// # Errors
    /// Whatever is wrong with a file, and images without features, all named.
    pub fn read(
        config: &Config,
        carried: Option<&RunState>,
        replicas: &[Replica],
    ) -> Result<Inputs> {
        let files = Files::read(config, carried.is_some())?;
        let cannot = || {
            format!(
                "cannot use the checkpoint {}",
                config.ckpt_to_load().display()
            )
        };
        let vocabulary = match carried {
            Some(state) => Vocabulary::from_words(state.vocabulary.clone()).with_context(cannot)?,
            None => files.vocabulary(),
        };
        let answers = match carried {
            Some(state) => AnswerList::from_answers(state.answers.clone()).with_context(cannot)?,
            None => files.answers(config, replicas[0].is_first())?,
        };
        let mut inputs = Inputs {
            vocabulary,
            answers,
            training: None,
            answering: None,
            evaluator: None,
        };
        let training = match config.run.run_mode {
            RunMode::Train => Some(files.training(config, &inputs)?),
            _ => None,
        };
        let answered = match config.run.run_mode {
            RunMode::Train => config.evaluates_epochs().then_some(Source::Val),
            RunMode::Test => Some(config.test_source()),
            _ => Some(Source::Val),
        };
        let mut answering = None;
        if let Some(source) = answered {
            let questions = files.questions_of(source)?;
            let dataset =
                Dataset::for_answering(questions, &inputs.vocabulary, config.data.max_token);
            let split = if source == Source::Val {
                Split::Val
            } else {
                Split::Test
            };
            if source == Source::Val {
                let evaluator = Evaluator::new(files.annotations_of(Source::Val)?)?;
                let cannot = || format!("cannot evaluate the answers to {}", questions.name());
                evaluator
                    .check_questions(dataset.question_ids())
                    .with_context(cannot)?;
                inputs.evaluator = Some(evaluator);
            }
            answering = Some(Unread::new(config, dataset, &[split], &[questions.name()])?);
        }
        drop(files);
        let devices: Vec<Device> = replicas.iter().map(|replica| replica.device).collect();
        let read = |task: Option<Unread>| task.map(|task| task.read(config, &devices)).transpose();
        (inputs.training, inputs.answering) = (read(training)?, read(answering)?);
        Ok(inputs)
    }

    /// What to answer.
    ///
    /// # Errors
    /// When that is nothing.
    pub fn answering(&self) -> Result<&Task> {
        self.answering
            .as_ref()
            .context("there is nothing to answer")
    }

    /// A short text that differs where questions, words or answers do.
    pub fn fingerprint(&self) -> String {
        let mut hasher = FxHasher::default();
        let tasks = [&self.training, &self.answering]
            .map(|task| task.as_ref().map(|task| task.dataset.question_ids()));
        tasks.hash(&mut hasher);
        self.vocabulary
            .words()
            .for_each(|word| word.hash(&mut hasher));
        self.answers
            .answers()
            .for_each(|answer| answer.hash(&mut hasher));
        let [trained, answered] = tasks.map(|ids| ids.map_or(0, <[i64]>::len));
        let (words, answers) = (self.vocabulary.len(), self.answers.len());
        format!(
            "{trained} + {answered} questions, {words} words, {answers} answers, {:x}",
            hasher.finish()
        )
    }
}

/// A task with all its features in place. None is read ahead before all that can be wrong with any file is known.
struct Unread {
    dataset: Dataset,
    features: Features,
}

impl Unread {
    /// `names` are the files that the questions are of, for messages.
    fn new(config: &Config, dataset: Dataset, splits: &[Split], names: &[&str]) -> Result<Unread> {
        let names = names.join(", ");
        ensure!(
            !dataset.is_empty(),
            "there is no question to train on or to answer in {names}"
        );
        let folders: Vec<PathBuf> = splits
            .iter()
            .map(|&split| config.features_of(split))
            .collect();
        let features = Features::open(
            &folders,
            config.feature_size(),
            config.data.img_feat_pad_size,
        )?;
        let missing = features.missing(dataset.image_ids().iter().copied());
        if !missing.is_empty() {
            let asked_by =
                |image: &u64| dataset.image_ids().iter().position(|other| other == image);
            let named = |image| {
                asked_by(image)
                    .map(|at| format!("{image} of question {}", dataset.question_ids()[at]))
            };
            let first: Vec<String> = missing.iter().take(5).filter_map(named).collect();
            bail!(
                "{} images of {names} have no features in {} (first: {}); place the missing .npz files there, or pack \
                 the authors' archives with --RUN=pack",
                missing.len(),
                features.places(),
                first.join(", ")
            );
        }
        Ok(Unread { dataset, features })
    }

    /// With the features in memory or on the devices, if that is where the run holds them.
    fn read(self, config: &Config, devices: &[Device]) -> Result<Task> {
        let Unread {
            dataset,
            mut features,
        } = self;
        let table = match config.data.preload {
            Preload::No => None,
            Preload::Host => preload(&mut features, &dataset, false).map(|()| None)?,
            Preload::Device => {
                preload(&mut features, &dataset, true)?;
                Some(Table::of(&mut features, devices)?)
            }
        };
        Ok(Task {
            dataset: Arc::new(dataset),
            features: Arc::new(features),
            table,
        })
    }
}

impl Task {
    /// What packs batches of these questions for `net`.
    pub fn packer(&self, config: &Config, net: &Net, device: Device) -> Packer {
        Packer {
            device,
            pin_mem: config.data.pin_mem,
            feature_size: config.feature_size(),
            answers: net.answers(),
            table: self.table.as_ref().and_then(|table| table.on(device)),
        }
    }
}

/// Reads the features of all images of `dataset` into memory.
fn preload(features: &mut Features, dataset: &Dataset, in_half: bool) -> Result<()> {
    let mut wanted = dataset.image_ids().to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let progress = Mutex::new(Progress::new(
        "Preloading features",
        wanted.len() as u64,
        false,
    ));
    features.preload(wanted.iter().copied(), in_half, &|done| {
        if let Ok(mut progress) = progress.lock()
            && (progress.is_due() || done == wanted.len())
        {
            progress.show(done as u64, "");
        }
    })
}

/// The parsed question and annotation files, by source.
struct Files {
    questions: Vec<(Source, QuestionFile)>,
    annotations: Vec<(Source, AnnotationFile)>,
}

impl Files {
    /// Reads the files of the run's sources, and those that vocabulary and answers are made from unless a checkpoint
    /// brings these.
    fn read(config: &Config, words_are_carried: bool) -> Result<Files> {
        let mut asked = config.sources();
        asked.dedup();
        let mut annotated: Vec<Source> = asked.clone();
        annotated.retain(|source| !matches!(source, Source::Test | Source::TestDev));
        if !words_are_carried {
            let present = |source: &Source| locate(&config.questions_of(*source)).is_some();
            add_missing(&mut asked, Source::VOCABULARY.into_iter().filter(present));
            if !config.answer_dict().exists() && !config.loads_checkpoint() {
                let present = |source: &Source| locate(&config.annotations_of(*source)).is_some();
                add_missing(
                    &mut annotated,
                    [Source::Train, Source::Val].into_iter().filter(present),
                );
            }
        }
        let question_paths: Vec<PathBuf> = asked
            .iter()
            .map(|&source| config.questions_of(source))
            .collect();
        let annotation_paths: Vec<PathBuf> = annotated
            .iter()
            .map(|&source| config.annotations_of(source))
            .collect();
        let (questions, annotations) = vqa2::read_all(&question_paths, &annotation_paths)?;
        Ok(Files {
            questions: asked.into_iter().zip(questions).collect(),
            annotations: annotated.into_iter().zip(annotations).collect(),
        })
    }

    fn questions_of(&self, wanted: Source) -> Result<&QuestionFile> {
        let found = self.questions.iter().find(|(source, _)| *source == wanted);
        found
            .map(|(_, file)| file)
            .with_context(|| format!("the {} questions were not read", wanted.key()))
    }

    fn annotations_of(&self, wanted: Source) -> Result<&AnnotationFile> {
        let found = self
            .annotations
            .iter()
            .find(|(source, _)| *source == wanted);
        found
            .map(|(_, file)| file)
            .with_context(|| format!("the {} annotations were not read", wanted.key()))
    }

    /// Words of the files that exist, in the published order, and a line that says which files those are.
    fn vocabulary(&self) -> Vocabulary {
        let used: Vec<Source> = Source::VOCABULARY
            .into_iter()
            .filter(|source| self.questions_of(*source).is_ok())
            .collect();
        let vocabulary = Vocabulary::from_questions(
            used.iter()
                .filter_map(|&source| self.questions_of(source).ok()),
        );
        let names: Vec<&str> = used.iter().map(|source| source.key()).collect();
        crate::note!(
            "Vocabulary: {} words of the question files of {}",
            vocabulary.len(),
            names.join(", ")
        );
        vocabulary
    }

    /// The published answers, or those counted in the annotations of train and val.
    fn answers(&self, config: &Config, saves: bool) -> Result<AnswerList> {
        let path = config.answer_dict();
        if path.exists() {
            let answers = AnswerList::load(&path)?;
            crate::note!("Answers: {} of {}", answers.len(), path.display());
            return Ok(answers);
        }
        ensure!(
            !config.loads_checkpoint(),
            "{} is not there, and without it the answers of a published checkpoint have no names; ./setup.sh data \
             fetches it",
            path.display()
        );
        let counted = [Source::Train, Source::Val]
            .into_iter()
            .filter_map(|source| self.annotations_of(source).ok());
        let answers = AnswerList::from_annotations(counted)?;
        if saves {
            answers.save(&path)?;
        }
        crate::note!(
            "Answers: {} counted in the annotations, saved in {}",
            answers.len(),
            path.display()
        );
        Ok(answers)
    }

    fn training(&self, config: &Config, inputs: &Inputs) -> Result<Unread> {
        let sources = Source::of_training(config.data.train_split);
        let files = sources
            .iter()
            .map(|&source| Ok((self.questions_of(source)?, self.annotations_of(source)?)))
            .collect::<Result<Vec<_>>>()?;
        let dataset = Dataset::for_training(
            &files,
            &inputs.vocabulary,
            &inputs.answers,
            config.data.max_token,
        )?;
        let splits: Vec<Split> = match sources {
            [Source::Train] => vec![Split::Train],
            _ => vec![Split::Train, Split::Val],
        };
        let names: Vec<&str> = files
            .iter()
            .map(|(_, annotations)| annotations.name())
            .collect();
        let task = Unread::new(config, dataset, &splits, &names)?;
        let (len, batch_size) = (task.dataset.len(), config.train.batch_size);
        ensure!(
            len >= batch_size,
            "{len} questions do not fill one batch of {batch_size}; lower it with --BS"
        );
        Ok(task)
    }
}

fn add_missing(sources: &mut Vec<Source>, more: impl Iterator<Item = Source>) {
    for source in more {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
}
