//! The form of the entries of a data set: that of the VQA challenge, or one that differs from it in a few points.

use super::image_id;
use crate::data::features::FileNames;
use crate::data::{Id, ImageId, QuestionId};
use crate::formats::bank::ImageKey;
use crate::formats::json::{Int, Text};
use crate::formats::strings::{Strings, intern};
use anyhow::{Context, Result, bail, ensure};

/// The layout of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// VQA's: a question has a `question_id`, and its annotation names it.
    Vqa,
    /// VizWiz's: an entry has an `image`, a `question` and `answers`. An image has one question and stands for it.
    VizWiz,
}

/// The ids of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// Numbers, as those of COCO.
    Numbers,
    /// Texts: names of picture files, with or without their extension.
    Names,
}

/// The form of the files of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The layout of the entries.
    pub layout: Layout,
    /// The ids of the images.
    pub images: Images,
    /// Whether each annotation must have its types and its `multiple_choice_answer`, as those of VQA-v2. Elsewhere a missing
    /// choice is the answer that most annotators gave (of several, the first), no accuracy is computed for a missing type,
    /// and two answers that are equal in every field are those of two annotators.
    pub complete: bool,
}

impl Form {
    /// The form of VQA-v2.
    pub const VQA2: Form = Form {
        layout: Layout::Vqa,
        images: Images::Numbers,
        complete: true,
    };

    /// The forms of the files of data sets that a file describes.
    pub const DESCRIBED: [Form; 3] = [
        Form {
            complete: false,
            ..Form::VQA2
        },
        Form {
            layout: Layout::Vqa,
            images: Images::Names,
            complete: false,
        },
        Form {
            layout: Layout::VizWiz,
            images: Images::Names,
            complete: false,
        },
    ];
}

/// Feature files are named by the names of pictures.
pub(in crate::datasets) const NAMED_FEATURE_FILES: FileNames = FileNames {
    image: |name| Some(ImageKey::Text(image_name(name).to_owned())),
    expected: "<image name>.npz or <image name>.jpg.npz",
    split: None,
    rows_first: false,
};

/// The name of a picture without the extension of a picture.
fn image_name(name: &str) -> &str {
    const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff"];
    let is_picture = |end: &str| PICTURES.contains(&end.to_ascii_lowercase().as_str());
    match name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() && is_picture(end) => stem,
        _ => name,
    }
}

/// The image that an entry names.
pub(super) enum Named<'a> {
    Number(Option<Int>),
    Name(Option<Text<'a>>),
}

/// The ids of the questions and images of one file.
#[derive(Clone)]
pub(super) struct Ids {
    form: Form,
    /// The images that have names, by number.
    names: Strings,
}

impl Ids {
    pub(super) fn new(form: Form) -> Ids {
        Ids {
            form,
            names: Strings::default(),
        }
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// The numbers of the question and of the image of the next entry. `entry` says what it is, for messages.
    ///
    /// # Errors
    /// An id that is missing or negative; in the layout of VizWiz, a second entry for an image.
    pub(super) fn next(
        &mut self,
        entry: &str,
        question_id: Option<Int>,
        image: Named,
    ) -> Result<(i64, u64)> {
        if self.form.layout == Layout::VizWiz {
            let Named::Name(name) = image else {
                bail!("{entry} has a number in place of the name of an image");
            };
            let name = name.with_context(|| format!("{entry} has no \"image\""))?;
            let (number, is_new) = self.names.insert_full(name.to_string());
            ensure!(
                is_new,
                "the image {:?} is there twice; in VizWiz's format an image has one question, in VQA's it may have several",
                &*name
            );
            return Ok((i64::try_from(number)?, number as u64));
        }
        let Int(id) = question_id.with_context(|| format!("{entry} has no \"question_id\""))?;
        let image = match image {
            Named::Number(given) => image_id(id, given)?,
            Named::Name(name) => {
                let lacks = || format!("question {id} has no \"image_id\" and no \"image\"");
                intern(&mut self.names, &name.with_context(lacks)?)?.into()
            }
        };
        Ok((id, image))
    }

    /// The id of the image with this number.
    pub(super) fn image(&self, number: u64) -> ImageId {
        match self.form.images {
            // Not truncated: a file with a larger number is refused.
            Images::Numbers => ImageId::from(number as i64),
            Images::Names => ImageId::from(image_name(self.name(number))),
        }
    }

    /// The id of the question with this number: in the layout of VizWiz, the file name of its image.
    pub(super) fn question(&self, number: i64) -> QuestionId {
        match self.form.layout {
            Layout::Vqa => number.into(),
            Layout::VizWiz => QuestionId::from(self.name(number as u64)),
        }
    }

    fn name(&self, number: u64) -> &str {
        let name = usize::try_from(number).ok();
        let name = name.and_then(|number| self.names.get_index(number));
        name.map_or("", String::as_str)
    }

    /// The number of the question that answers and annotations call `id`; none for an id of another kind, or an image that
    /// is not named.
    pub(super) fn number(&self, id: &QuestionId) -> Option<i64> {
        match (self.form.layout, &id.0) {
            (Layout::Vqa, id) => id.number(),
            (Layout::VizWiz, Id::Text(name)) => {
                i64::try_from(self.names.get_index_of(&**name)?).ok()
            }
            (Layout::VizWiz, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_the_same_name_with_and_without_its_extension() {
        for (name, expected) in [
            ("VizWiz_train_00000000.jpg", "VizWiz_train_00000000"),
            ("kitchen", "kitchen"),
            ("kitchen.PNG", "kitchen"),
            ("kitchen.v2", "kitchen.v2"),
            (".jpg", ".jpg"),
            ("a.b.jpeg", "a.b"),
        ] {
            assert_eq!(image_name(name), expected);
        }
    }
}
