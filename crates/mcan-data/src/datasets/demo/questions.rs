//! What is asked about a scene, what is true of it, and what ten annotators make of that.

use super::world::{COLORS, Group, MAX_COUNT, OBJECTS, Scene};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

/// Annotators per question, as in VQA-v2.
pub const ANNOTATORS: usize = 10;
const NUMBERS: [(&str, &str); MAX_COUNT] =
    [("1", "one"), ("2", "two"), ("3", "three"), ("4", "four")];
/// What an annotator may write who did not see it; not in the answer dictionary.
const NO_IDEA: &str = "not sure";

/// A way to ask: VQA-v2's question type, and the text around `{object}`, `{color}` and `{category}`.
type Phrasing = (&'static str, &'static str);

const IS_THERE: [Phrasing; 3] = [
    ("is there a", "Is there a {object} in the picture?"),
    ("can you", "Can you see a {object}?"),
    ("is there", "Is there any {object} here?"),
];
const IS_IT: [Phrasing; 1] = [("is the", "Is the {object} {color}?")];
const WHAT_COLOR: [Phrasing; 3] = [
    ("what color is the", "What color is the {object}?"),
    (
        "what is the color of the",
        "What is the color of the {object}?",
    ),
    ("which", "Which color does the {object} have?"),
];
const HOW_MANY: [Phrasing; 2] = [
    ("how many", "How many {object}s are there?"),
    ("how many", "How many {object}s can you see?"),
];
const WHICH_OF: [Phrasing; 2] = [
    ("what", "What {category} is in the picture?"),
    ("which", "Which {category} is there?"),
];
const WHAT_IS: [Phrasing; 2] = [
    ("what is", "What is {color} in the picture?"),
    ("what is the", "What is the {color} thing?"),
];

/// A question with everything that any of the files says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub image_id: u64,
    pub question_id: u64,
    pub text: String,
    /// `yes/no`, `number` or `other`.
    pub answer_type: &'static str,
    /// VQA-v2's: the words that it begins with.
    pub question_type: &'static str,
    /// What the scene says.
    pub truth: &'static str,
    /// What the annotators say, as they wrote it.
    pub answers: Vec<String>,
}

/// Asks about one scene.
pub struct Asker<'a, R> {
    pub scene: &'a Scene,
    pub random: &'a mut R,
}

impl<R: Rng> Asker<'_, R> {
    /// A question of one of four sorts (yes or no, colour, count, thing), equally often, and its answers.
    pub fn ask(&mut self, image_id: u64, question_id: u64) -> Question {
        let (answer_type, (question_type, text), truth) = match self.random.random_range(0..4) {
            0 => self.yes_no(),
            1 => {
                let group = self.group();
                (
                    "other",
                    self.phrase(&WHAT_COLOR, &group),
                    COLORS[group.color],
                )
            }
            2 => {
                let group = self.group();
                (
                    "number",
                    self.phrase(&HOW_MANY, &group),
                    NUMBERS[group.count - 1].0,
                )
            }
            _ => {
                let group = self.group();
                // "What animal" has one answer only where the scene has one kind of animal.
                let category = OBJECTS[group.object].1;
                let alone = self
                    .scene
                    .groups
                    .iter()
                    .filter(|other| OBJECTS[other.object].1 == category)
                    .count()
                    == 1;
                let by_category = alone && self.random.random();
                let phrasings = if by_category { &WHICH_OF } else { &WHAT_IS };
                (
                    "other",
                    self.phrase(phrasings, &group),
                    OBJECTS[group.object].0,
                )
            }
        };
        let answers = annotate(truth, &alternatives(truth), self.random);
        Question {
            image_id,
            question_id,
            text,
            answer_type,
            question_type,
            truth,
            answers,
        }
    }

    /// As often yes as no, whatever the phrasing.
    fn yes_no(&mut self) -> (&'static str, (&'static str, String), &'static str) {
        let truth: bool = self.random.random();
        let mut group = self.group();
        let asked = if self.random.random_ratio(3, 5) {
            if !truth {
                let absent = |object: &usize| {
                    self.scene
                        .groups
                        .iter()
                        .all(|group| group.object != *object)
                };
                let absent: Vec<usize> = (0..OBJECTS.len()).filter(absent).collect();
                group.object = absent[self.random.random_range(0..absent.len())];
            }
            self.phrase(&IS_THERE, &group)
        } else {
            if !truth {
                group.color =
                    (group.color + self.random.random_range(1..COLORS.len())) % COLORS.len();
            }
            self.phrase(&IS_IT, &group)
        };
        ("yes/no", asked, if truth { "yes" } else { "no" })
    }

    fn group(&mut self) -> Group {
        self.scene.groups[self.random.random_range(0..self.scene.groups.len())]
    }

    fn phrase(&mut self, phrasings: &[Phrasing], group: &Group) -> (&'static str, String) {
        let (question_type, text) = phrasings[self.random.random_range(0..phrasings.len())];
        let (object, category) = OBJECTS[group.object];
        let text = text
            .replace("{object}", object)
            .replace("{category}", category);
        (question_type, text.replace("{color}", COLORS[group.color]))
    }
}

/// Every answer of this world, in the order of the answer dictionary.
pub fn all_answers() -> Vec<&'static str> {
    let numbers = NUMBERS.map(|(digit, _)| digit);
    let objects = OBJECTS.map(|(object, _)| object);
    [["yes", "no"].as_slice(), &numbers, &COLORS, &objects].concat()
}

/// The other answers that somebody who looked less carefully might give.
fn alternatives(truth: &str) -> Vec<&'static str> {
    let numbers = NUMBERS.map(|(digit, _)| digit);
    let objects = OBJECTS.map(|(object, _)| object);
    let sorts: [&[&'static str]; 4] = [&["yes", "no"], &numbers, &COLORS, &objects];
    let sort = sorts
        .into_iter()
        .find(|sort| sort.contains(&truth))
        .unwrap_or_default();
    sort.iter()
        .copied()
        .filter(|answer| *answer != truth)
        .chain([NO_IDEA])
        .collect()
}

/// Ten answers among which the truth leads. At most two are wrong, and one may be spelled in a way that only
/// normalises to it; but one question in ten is contested: seven spread over the alternatives (three for yes or no).
fn annotate(
    truth: &'static str,
    alternatives: &[&'static str],
    random: &mut impl Rng,
) -> Vec<String> {
    let contested = random.random_ratio(1, 10);
    let dissenters = match (contested, alternatives.len()) {
        (false, _) => random.random_range(0..=2),
        (true, ..=2) => 3,
        (true, _) => 7,
    };
    let mut others = alternatives.to_vec();
    others.shuffle(random);
    let mut answers: Vec<String> = others
        .iter()
        .cycle()
        .take(dissenters)
        .map(|answer| answer.to_string())
        .collect();
    if !contested && random.random_ratio(1, 2) {
        answers.push(respell(truth, random));
    }
    answers.resize(ANNOTATORS, truth.to_string());
    answers.shuffle(random);
    answers
}

/// `truth` as a hurried person writes it.
fn respell(truth: &str, random: &mut impl Rng) -> String {
    if let Some((_, word)) = NUMBERS.iter().find(|(digit, _)| *digit == truth) {
        return word.to_string();
    }
    let mut capital = truth.to_string();
    capital[..1].make_ascii_uppercase();
    let ways = [
        format!("{truth}."),
        capital,
        format!("a {truth}"),
        format!("the {truth}"),
    ];
    ways.choose(random).unwrap_or(&ways[0]).clone()
}
