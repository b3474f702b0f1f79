//! The inputs of a run: questions, annotations, vocabulary, answers and features, read before the run starts.

mod task;

pub use task::{Tables, Task};

use super::limits;
use super::network;
use super::plan::Plan;
use crate::base::files::exists;
use crate::checkpoint::RunState;
use crate::config::{Config, RunMode};
use crate::data::Dataset;
use crate::data::answers::AnswerList;
use crate::data::streams::Needs;
use crate::data::vocab::Vocabulary;
use crate::datasets::files::split;
use crate::datasets::{Benchmark, Lists, Metric, QuestionFiles, SplitFiles, SplitName, WordList};
use crate::distributed::Replica;
use crate::formats::json::locate;
use anyhow::{Context, Result, ensure};
use rustc_hash::FxHasher;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use tch::Device;
use tracing::info;

/// The inputs of a run.
pub struct Inputs {
    /// Words of the model.
    pub vocabulary: Vocabulary,
    /// Answers of the model.
    pub answers: AnswerList,
    /// Words of a question that are used.
    pub max_token: usize,
    /// The questions to train on, in a training run.
    pub training: Option<Task>,
    /// The questions to answer, of the evaluated split or of a test split.
    pub answering: Option<Task>,
    /// The metric that scores the answers to the evaluated split.
    pub metric: Option<Box<dyn Metric>>,
}

impl Inputs {
    /// Reads the inputs of the run of `plan`.
    ///
    /// `carried` is the run state of a checkpoint, which has words and answers of its own. Features are held on the
    /// devices of `replicas` if the run asks for it. The first replica saves an answer list that is counted.
    ///
    /// # Errors
    /// A file that is missing or wrong, or images without features; the message names them.
    pub fn read(plan: &Plan, carried: Option<&RunState>, replicas: &[Replica]) -> Result<Inputs> {
        let config = plan.config();
        let needs = network::needs(config)?;
        let benchmark = config.data.benchmark()?;
        let mut files = read_files(config, benchmark, carried.is_none())?;
        let (vocabulary, answers, max_token) = match carried {
            Some(state) => {
                let cannot = || format!("cannot use {}", plan.ckpt_to_load().display());
                let (vocabulary, answers) = carried_lists(state).with_context(cannot)?;
                note_other_lists(config, benchmark, &*files, &vocabulary, &answers)?;
                let max_token = state.max_token.map(usize::try_from).transpose()?;
                (vocabulary, answers, max_token)
            }
            None => {
                let lists = lists_of(config, benchmark, &*files, replicas[0].is_first())?;
                match lists.words {
                    Some(words) => (words.vocabulary, lists.answers, Some(words.longest)),
                    None => (
                        vocabulary_of(config, benchmark, &*files),
                        lists.answers,
                        None,
                    ),
                }
            }
        };
        // A data set may use the length of its longest question in place of MAX_TOKEN.
        let max_token = match files.longest_question() {
            Some(longest) => max_token.unwrap_or(longest),
            None => config.data.max_token,
        };
        let mut inputs = Inputs {
            vocabulary,
            answers,
            max_token,
            training: None,
            answering: None,
            metric: None,
        };
        let training = match config.run.run_mode {
            RunMode::Train => Some(inputs.training_task(config, &*files, needs)?),
            _ => None,
        };
        let answering = match config.answered_split()? {
            Some(split) => Some(inputs.answering_task(config, &mut *files, split, needs)?),
            None => None,
        };
        drop(files);
        for task in [&training, &answering].into_iter().flatten() {
            limits::check_lengths(plan, task)?;
        }
        // Features are preloaded only after every file has been checked.
        let devices: Vec<Device> = replicas.iter().map(|replica| replica.device).collect();
        let preloaded = |task: Option<Task>| {
            task.map(|task| task.preloaded(config, &devices))
                .transpose()
        };
        (inputs.training, inputs.answering) = (preloaded(training)?, preloaded(answering)?);
        info!(
            words = inputs.vocabulary.len(),
            answers = inputs.answers.len(),
            questions_to_train_on = inputs.training.as_ref().map(|task| task.dataset.len()),
            questions_to_answer = inputs.answering.as_ref().map(|task| task.dataset.len()),
            "inputs read"
        );
        Ok(inputs)
    }

    /// The questions of the training splits.
    fn training_task(
        &self,
        config: &Config,
        files: &dyn QuestionFiles,
        needs: Needs,
    ) -> Result<Task> {
        let splits = config.data.trained_splits()?;
        let max_token = self.max_token;
        let dataset = files.for_training(
            splits,
            &self.vocabulary,
            &self.answers,
            max_token,
            config.loss()?,
        )?;
        let names = files.names(splits, true);
        self.check_targets(&dataset, &names)?;
        let task = Task::open(config, dataset, splits, needs, max_token, &names)?;
        let (len, batch_size) = (task.dataset.len(), config.train.batch_size);
        ensure!(
            len >= batch_size,
            "the {len} questions of {names} do not fill one batch of {batch_size}; lower it with --BS"
        );
        Ok(task)
    }

    /// Checks that the questions have targets: right answers that are in the answer list.
    fn check_targets(&self, dataset: &Dataset, names: &str) -> Result<()> {
        let questions = dataset.len();
        let without = (0..questions)
            .filter(|&i| dataset.targets(i).is_empty())
            .count();
        let list: Vec<&str> = self.answers.answers().take(3).collect();
        let remedy = format!(
            "the list begins with {list:?}, and annotations are compared in their normal form (lower case, without \
             articles and punctuation); to have it counted in the annotations, move answer_dict.json away"
        );
        ensure!(
            without < questions || questions == 0,
            "none of the {questions} questions of {names} has an answer that is in the answer list, so nothing can be \
             learned: {remedy}"
        );
        // In published data sets a few of a hundred questions have none.
        if 4 * without > questions {
            crate::note!(
                "{without} of {questions} questions of {names} have no answer that is in the answer list: {remedy}"
            );
        }
        Ok(())
    }

    /// The questions of the split that the run answers. Also sets the metric, if the split is the evaluated one.
    fn answering_task(
        &mut self,
        config: &Config,
        files: &mut dyn QuestionFiles,
        split: SplitName,
        needs: Needs,
    ) -> Result<Task> {
        let max_token = self.max_token;
        let dataset = files.for_answering(split, &self.vocabulary, max_token)?;
        let names = files.names(&[split], false);
        if split == config.data.benchmark()?.evaluated_split() {
            self.metric = Some(files.metric(split, config.data.accuracy.into())?);
        }
        Task::open(config, dataset, &[split], needs, max_token, &names)
    }

    /// The questions to answer.
    ///
    /// # Errors
    /// A run without such questions.
    pub(crate) fn answering(&self) -> Result<&Task> {
        self.answering
            .as_ref()
            .context("there is nothing to answer")
    }

    /// A short text that differs if questions, words or answers differ.
    pub(crate) fn fingerprint(&self) -> String {
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
        let [trained, answered] = tasks.map(|ids| ids.map_or(0, <[_]>::len));
        let (words, answers) = (self.vocabulary.len(), self.answers.len());
        format!(
            "{trained} + {answered} questions, {words} words, {answers} answers, {:x}",
            hasher.finish()
        )
    }
}

/// Reads the files of the run's splits; with `words` also the files that vocabulary and answers are made from.
fn read_files(
    config: &Config,
    benchmark: &dyn Benchmark,
    words: bool,
) -> Result<Box<dyn QuestionFiles>> {
    let places = config.data.places();
    let needed = config.splits()?;
    let has_answers = match places.answers(benchmark)? {
        Some(file) => exists(&file)?,
        None => false,
    };
    let counts_answers = words && !config.continues_checkpoint() && !has_answers;
    let further: &[SplitName] = if words {
        benchmark.vocabulary_splits()
    } else {
        &[]
    };
    let counted: &[SplitName] = if counts_answers {
        benchmark.answer_splits()
    } else {
        &[]
    };
    let mut files: Vec<SplitFiles> = Vec::new();
    for &name in needed.iter().chain(further).chain(counted) {
        if files.iter().any(|file| file.split == name) {
            continue;
        }
        // A file that the run needs is read even if it is missing, so that the error names it.
        let read = |extra: &[SplitName], file: PathBuf| -> Result<Option<PathBuf>> {
            let is_read =
                needed.contains(&name) || extra.contains(&name) && locate(&file)?.is_some();
            Ok(is_read.then_some(file))
        };
        let split = split(benchmark, name)?;
        let annotations = places.annotations(benchmark, split)?;
        files.push(SplitFiles {
            split: name,
            questions: read(further, places.questions(benchmark, split)?)?,
            annotations: annotations
                .map(|file| read(counted, file))
                .transpose()?
                .flatten(),
        });
    }
    benchmark.read(&files)
}

/// The vocabulary and the answer list of a checkpoint.
fn carried_lists(state: &RunState) -> Result<(Vocabulary, AnswerList)> {
    let words = Vocabulary::from_words(state.vocabulary.clone())?;
    Ok((words, AnswerList::from_answers(state.answers.clone())?))
}

/// Says where the words of the questions and the file of answers are not those of the checkpoint, which are used.
fn note_other_lists(
    config: &Config,
    benchmark: &dyn Benchmark,
    files: &dyn QuestionFiles,
    vocabulary: &Vocabulary,
    answers: &AnswerList,
) -> Result<()> {
    let splits = config.splits()?;
    let words: HashSet<&str> = splits
        .iter()
        .filter_map(|split| files.words(split))
        .flatten()
        .collect();
    let unknown = words
        .iter()
        .filter(|word| !vocabulary.contains(word))
        .count();
    if unknown > 0 {
        crate::note!(
            "{unknown} of {} words of the questions are not among the words of the checkpoint and count as unknown",
            words.len()
        );
    }
    let Some(path) = config.data.places().answers(benchmark)? else {
        return Ok(());
    };
    // A list that cannot be read is not needed here.
    if exists(&path)?
        && benchmark
            .read_lists(&path)
            .is_ok_and(|lists| lists.answers != *answers)
    {
        crate::note!(
            "{} has other answers than the checkpoint, whose {} answers are used",
            path.display(),
            answers.len()
        );
    }
    Ok(())
}

/// The words of the question files that exist, in the published order. Prints which files these are.
fn vocabulary_of(
    config: &Config,
    benchmark: &dyn Benchmark,
    files: &dyn QuestionFiles,
) -> Vocabulary {
    let splits = benchmark.vocabulary_splits().iter();
    let used: Vec<(SplitName, Vec<&str>)> = splits
        .filter_map(|&split| Some((split, files.words(split)?)))
        .collect();
    let names: Vec<SplitName> = used.iter().map(|(split, _)| *split).collect();
    let words = used.into_iter().flat_map(|(_, words)| words);
    let vocabulary = Vocabulary::new(benchmark.special_words(config.convention()), words);
    crate::note!(
        "Vocabulary: {} words of the question files of {}",
        vocabulary.len(),
        names.join(", ")
    );
    vocabulary
}

/// The answer list and what else its file has: the published one, or answers counted in the files.
fn lists_of(
    config: &Config,
    benchmark: &dyn Benchmark,
    files: &dyn QuestionFiles,
    saves: bool,
) -> Result<Lists> {
    let counted = || -> Result<Lists> {
        let answers = files.count_answers(benchmark.answer_splits())?;
        Ok(Lists {
            answers,
            words: None,
        })
    };
    let Some(path) = config.data.places().answers(benchmark)? else {
        let lists = counted()?;
        crate::note!("Answers: {} counted in the questions", lists.answers.len());
        return Ok(lists);
    };
    if exists(&path)? {
        let lists = benchmark.read_lists(&path)?;
        crate::note!("Answers: {} of {}", lists.answers.len(), path.display());
        if let Some(words) = &lists.words {
            let place = path.display();
            crate::note!("Vocabulary: {} words of {place}", words.vocabulary.len());
        }
        return Ok(lists);
    }
    ensure!(
        !config.continues_checkpoint(),
        "{} is missing, and without it the answers of a published checkpoint have no names; {}",
        path.display(),
        benchmark.supply_of_answers()
    );
    let mut lists = counted()?;
    if benchmark.lists_have_words() {
        lists.words = Some(WordList {
            vocabulary: vocabulary_of(config, benchmark, files),
            longest: files.longest_question().unwrap_or(config.data.max_token),
        });
    }
    let counted = format!(
        "Answers: {} counted in the annotations",
        lists.answers.len()
    );
    // The checkpoints hold the list too, and the next run counts the same. Data may be on a read-only disk.
    match saves.then(|| benchmark.save_lists(&path, &lists)) {
        Some(Err(error)) => crate::note!("{counted}, but not saved: {error:#}"),
        Some(Ok(())) => crate::note!("{counted}, saved in {}", path.display()),
        None => crate::note!("{counted}"),
    }
    Ok(lists)
}
