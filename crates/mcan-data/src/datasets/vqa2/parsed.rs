//! The parsed files of a run, as every data set of this format has them.

use super::answer_list::{ANSWER_FREQUENCY, count_frequent_answers};
use super::form::Form;
use super::{AnnotationFile, Evaluator, QuestionFile, read_all, samples};
use crate::data::Dataset;
use crate::data::answers::AnswerList;
use crate::data::vocab::Vocabulary;
use crate::datasets::{LossKind, Measure, Metric, QuestionFiles, SplitFiles, SplitName, of_split};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// What a data set decides about its files.
#[derive(Clone, Copy, Debug)]
pub(in crate::datasets) struct Rules {
    /// The form of their entries.
    pub form: Form,
    /// An answer of a counted list occurs more often than this.
    pub answer_frequency: u32,
}

impl Rules {
    /// The rules of VQA-v2.
    pub(in crate::datasets) const VQA2: Rules = Rules {
        form: Form::VQA2,
        answer_frequency: ANSWER_FREQUENCY,
    };
}

/// Parsed question and annotation files, by split.
pub(in crate::datasets) struct Files {
    rules: Rules,
    questions: Vec<(SplitName, QuestionFile)>,
    annotations: Vec<(SplitName, AnnotationFile)>,
    /// For each split, the split whose folder has its images; none if they are images of the other splits.
    images: Vec<(SplitName, Option<SplitName>)>,
}

impl Files {
    /// Reads these files in parallel. `images` tells the split whose folder has the images of a split.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub(in crate::datasets) fn read(
        files: &[SplitFiles],
        rules: Rules,
        images: &dyn Fn(SplitName) -> Option<SplitName>,
    ) -> Result<Files> {
        let paths = |path: fn(&SplitFiles) -> &Option<PathBuf>| {
            let found = files
                .iter()
                .filter_map(move |file| Some((file.split, path(file).clone()?)));
            found.unzip::<_, _, Vec<SplitName>, Vec<PathBuf>>()
        };
        let (asked, question_paths) = paths(|file| &file.questions);
        let (annotated, annotation_paths) = paths(|file| &file.annotations);
        let (questions, annotations) = read_all(&question_paths, &annotation_paths, rules.form)?;
        let splits = files.iter().map(|file| file.split);
        Ok(Files {
            rules,
            questions: asked.into_iter().zip(questions).collect(),
            annotations: annotated.into_iter().zip(annotations).collect(),
            images: splits.map(|split| (split, images(split))).collect(),
        })
    }

    fn questions_of(&self, wanted: SplitName) -> Result<&QuestionFile> {
        of_split(&self.questions, wanted, "questions")
    }

    fn annotations_of(&self, wanted: SplitName) -> Result<&AnnotationFile> {
        of_split(&self.annotations, wanted, "annotations")
    }
}

impl QuestionFiles for Files {
    fn words(&self, split: SplitName) -> Option<Vec<&str>> {
        let questions = self.questions_of(split).ok()?;
        Some(questions.distinct_words().collect())
    }

    fn longest_question(&self) -> Option<usize> {
        None
    }

    fn count_answers(&self, splits: &[SplitName]) -> Result<AnswerList> {
        let files = splits
            .iter()
            .filter_map(|split| self.annotations_of(split).ok());
        let counted = count_frequent_answers(files, self.rules.answer_frequency);
        match self.rules.form.complete {
            true => counted,
            false => counted.context(
                "the answers to choose from cannot be counted; lower answers.at_least in the file that describes the data set",
            ),
        }
    }

    fn for_training(
        &self,
        splits: &[SplitName],
        words: &Vocabulary,
        answers: &AnswerList,
        max_token: usize,
        loss: LossKind,
    ) -> Result<Dataset> {
        let files = |name: &SplitName| {
            Ok(samples::SplitOf {
                images: *of_split(&self.images, name, "questions")?,
                questions: self.questions_of(name)?,
                annotations: self.annotations_of(name)?,
            })
        };
        let files = splits.iter().map(files).collect::<Result<Vec<_>>>()?;
        samples::for_training(&files, words, answers, max_token, loss)
    }

    fn for_answering(
        &self,
        split: SplitName,
        words: &Vocabulary,
        max_token: usize,
    ) -> Result<Dataset> {
        Ok(samples::for_answering(
            self.questions_of(split)?,
            words,
            max_token,
        ))
    }

    fn names(&self, splits: &[SplitName], training: bool) -> String {
        let name = |split: &SplitName| match training {
            true => self.annotations_of(split).map(AnnotationFile::name),
            false => self.questions_of(split).map(QuestionFile::name),
        };
        let names: Vec<&str> = splits.iter().filter_map(|split| name(split).ok()).collect();
        names.join(", ")
    }

    fn metric(&mut self, split: SplitName, measure: Measure) -> Result<Box<dyn Metric>> {
        let evaluator = Evaluator::new(self.annotations_of(split)?, measure)?;
        let questions = self.questions_of(split)?;
        let ids = (0..questions.questions().len()).map(|i| questions.question_id(i));
        let cannot = || format!("cannot evaluate the answers to {}", questions.name());
        evaluator.check_questions(ids).with_context(cannot)?;
        Ok(Box::new(evaluator))
    }
}
