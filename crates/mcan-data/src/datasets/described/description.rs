//! Reads the file that describes a data set.

use super::Described;
use super::section::Section;
use crate::datasets::files::Split;
use crate::datasets::vqa2::Rules;
use crate::datasets::vqa2::form::{Form, Images, Layout};
use crate::datasets::{Measure, SplitName};
use crate::formats::yaml;
use anyhow::{Result, anyhow, ensure};
use std::path::Path;

/// The regions of an image and the values of each, as the published features of bottom-up attention have them.
const REGIONS: [usize; 2] = [100, 2048];

/// The number of times that an answer of a counted list occurs at least, as in VQA-v2.
const AT_LEAST: usize = 9;

/// The words of a data set with the splits of each.
type Words = Vec<(&'static str, &'static [SplitName])>;

/// The data set `name` that `text`, the content of the file `place`, describes.
///
/// # Errors
/// A text that is not YAML, a key that is unknown, missing or of another type, a split that is not described or lacks a
/// file that it needs. Each names the file and the key.
pub(super) fn read(name: &str, place: &str, text: &str) -> Result<Described> {
    let mut file = Section::new(place, yaml::mapping(place, text)?);
    let name = leaked(name.to_owned());
    let source = file.text("source")?;
    let supply = leaked(source.unwrap_or_else(|| format!("{place} describes the data set {name}")));
    let folders = (
        folders(&mut file, "folder", format!("./datasets/{name}/"))?,
        folders(
            &mut file,
            "feature_folder",
            format!("./datasets/{name}_extract/"),
        )?,
    );
    let form = form(&mut file)?;
    let measure = file.word("metric", &MEASURES, Measure::Official)?;
    let [padded_to, width] = file.counts("regions")?.unwrap_or(REGIONS);
    let archive = file.text("archive")?;
    let splits = Splits::read(file.section("splits")?, place, supply)?;
    let trainings = trainings(file.section("train")?, place, &splits)?;
    let evaluated = file.required_text("evaluate", "which split --RUN=val answers")?;
    let evaluated = splits.named(&file, "evaluate", &evaluated)?;
    splits.need_annotations(&file, "evaluate", &[evaluated])?;
    let tests = splits.list(&mut file, "test")?.unwrap_or_default();
    splits.need_features(&file, "evaluate", &[evaluated])?;
    splits.need_features(&file, "test", &tests)?;
    let vocabulary = splits.list(&mut file, "vocabulary")?;
    let answers = Answers::read(file.section("answers")?, &splits)?;
    file.finish()?;
    let first = trainings.first().map_or(&[][..], |(_, splits)| *splits);
    Ok(Described {
        name,
        folders,
        archives: splits.archives(archive),
        features: splits.features,
        trainings: trainings.leak(),
        evaluated,
        tests: tests.leak(),
        vocabulary: vocabulary.unwrap_or(splits.names).leak(),
        counted: answers.from.map_or(first, |from| from.leak()),
        answer_file: answers.file,
        rules: Rules {
            form,
            answer_frequency: answers.at_least - 1,
        },
        measure,
        regions: (padded_to, width),
        splits: splits.files.leak(),
    })
}

const MEASURES: [(&str, Measure); 3] = [
    ("official", Measure::Official),
    ("exact", Measure::Exact),
    ("share", Measure::Share),
];

fn leaked(text: String) -> &'static str {
    text.leak()
}

fn folders(
    file: &mut Section,
    key: &'static str,
    usual: String,
) -> Result<&'static [&'static str]> {
    let named = file.texts(key)?.filter(|folders| !folders.is_empty());
    let folders = named.unwrap_or_else(|| vec![usual]).into_iter();
    Ok(folders.map(leaked).collect::<Vec<_>>().leak())
}

fn form(file: &mut Section) -> Result<Form> {
    let layouts = [("vqa", Layout::Vqa), ("vizwiz", Layout::VizWiz)];
    let layout = file.word("format", &layouts, Layout::Vqa)?;
    let usual = match layout {
        Layout::Vqa => Images::Numbers,
        Layout::VizWiz => Images::Names,
    };
    let kinds = [("number", Images::Numbers), ("name", Images::Names)];
    let images = file.word("images", &kinds, usual)?;
    let fits = layout == Layout::Vqa || images == Images::Names;
    ensure!(
        fits,
        file.error(
            "images",
            "in the format vizwiz, images have names; leave the line out"
        )
    );
    Ok(Form {
        layout,
        images,
        complete: false,
    })
}

/// The splits of the file.
struct Splits {
    names: Vec<SplitName>,
    files: Vec<Split>,
    /// For each split, the folders of its features.
    features: Vec<Vec<&'static str>>,
}

impl Splits {
    fn read(section: Section, place: &str, supply: &'static str) -> Result<Splits> {
        let mut splits = Splits {
            names: Vec::new(),
            files: Vec::new(),
            features: Vec::new(),
        };
        for (name, mut split) in section.sections()? {
            let questions = split.required_text("questions", "which file has the questions")?;
            let annotations = split.text("annotations")?;
            let features = split.texts("features")?.unwrap_or_default();
            split.finish()?;
            let is_plain = !name.contains(|c: char| c.is_control() || "/\\".contains(c));
            ensure!(
                is_plain && !name.is_empty(),
                "{place}: splits: the name {name:?} of a split is a part of file names; it may not be empty or contain \
                 '/' or '\\'"
            );
            let (name, features) = (
                leaked(name),
                features.into_iter().map(leaked).collect::<Vec<_>>(),
            );
            splits.names.push(name);
            splits.files.push(Split {
                name,
                questions: leaked(questions),
                annotations: annotations.map(leaked),
                features: features.first().copied(),
                supply,
            });
            splits.features.push(features);
        }
        ensure!(
            !splits.names.is_empty(),
            "{place}: the key splits is missing; it lists the splits, each with its files"
        );
        Ok(splits)
    }

    fn find(&self, name: &str) -> Option<&Split> {
        self.files.iter().find(|split| split.name == name)
    }

    /// The split of this name.
    fn named(&self, file: &Section, key: &str, name: &str) -> Result<SplitName> {
        let found = self.find(name).map(|split| split.name);
        let known = self.names.join(", ");
        let unknown = format!("there is no split {name:?}, only {known}");
        found.ok_or_else(|| file.error(key, unknown))
    }

    /// The splits that a key lists; none if it is absent.
    fn list(&self, file: &mut Section, key: &'static str) -> Result<Option<Vec<SplitName>>> {
        let Some(names) = file.texts(key)? else {
            return Ok(None);
        };
        let splits = names.iter().map(|name| self.named(file, key, name));
        splits.collect::<Result<_>>().map(Some)
    }

    fn need_annotations(&self, file: &Section, key: &str, splits: &[SplitName]) -> Result<()> {
        let lacks = |name: &&SplitName| {
            self.find(name)
                .is_none_or(|split| split.annotations.is_none())
        };
        let lacking = splits.iter().find(lacks);
        lacking.map_or(Ok(()), |name| {
            let reason = format!(
                "the split {name} has no annotations; add the key splits.{name}.annotations"
            );
            Err(file.error(key, reason))
        })
    }

    fn need_features(&self, file: &Section, key: &str, splits: &[SplitName]) -> Result<()> {
        let lacks =
            |name: &&SplitName| self.find(name).is_none_or(|split| split.features.is_none());
        let lacking = splits.iter().find(lacks);
        lacking.map_or(Ok(()), |name| {
            let reason =
                format!("the split {name} has no features; add the key splits.{name}.features");
            Err(file.error(key, reason))
        })
    }

    /// For each question and annotation file, the archive in which it may lie: `archive`, else the file with `.zip`.
    fn archives(&self, archive: Option<String>) -> Vec<(&'static str, &'static str)> {
        let archive = archive.map(leaked);
        let files = self.files.iter();
        let files = files.flat_map(|split| [Some(split.questions), split.annotations]);
        let member = |file: &'static str| Path::new(file).file_name()?.to_str();
        let members = files.flatten().filter_map(member);
        members
            .map(|member| {
                (
                    member,
                    archive.unwrap_or_else(|| leaked(format!("{member}.zip"))),
                )
            })
            .collect()
    }
}

/// The words for `--SPLIT`, with the splits of each.
fn trainings(section: Section, place: &str, splits: &Splits) -> Result<Words> {
    let mut words: Words = Vec::new();
    for (word, names) in section.lists()? {
        let section = Section::new(place, Default::default());
        let key = format!("train.{word}");
        ensure!(
            !names.is_empty(),
            section.error(&key, "it lists no split to train on")
        );
        let named = names.iter().map(|name| splits.named(&section, &key, name));
        let named: Vec<SplitName> = named.collect::<Result<_>>()?;
        splits.need_annotations(&section, &key, &named)?;
        let with_images = named.iter().filter_map(|name| splits.find(name)?.features);
        ensure!(
            with_images.count() > 0,
            section.error(
                &key,
                "no split of it has features; add a split that has them"
            )
        );
        words.push((leaked(word), named.leak()));
    }
    let missing = || {
        anyhow!(
            "{place}: the key train is missing; it lists the words for --SPLIT with their splits, as in train: {{{0}: [{0}]}}",
            splits.names.first().copied().unwrap_or_default()
        )
    };
    ensure!(!words.is_empty(), missing());
    Ok(words)
}

/// The list of answers that a model chooses from.
struct Answers {
    file: Option<&'static str>,
    from: Option<Vec<SplitName>>,
    at_least: u32,
}

impl Answers {
    fn read(mut section: Section, splits: &Splits) -> Result<Answers> {
        let file = section.text("file")?.map(leaked);
        let from = splits.list(&mut section, "from")?;
        let [at_least] = section.counts("at_least")?.unwrap_or([AT_LEAST]);
        if let Some(from) = &from {
            splits.need_annotations(&section, "from", from)?;
        }
        section.finish()?;
        Ok(Answers {
            file,
            from,
            at_least: u32::try_from(at_least)?,
        })
    }
}
