//! Questions about scenes, with the true answer and the answers of ten annotators.

use crate::datasets::demo::world::{COLORS, Group, MAX_COUNT, OBJECTS, Scene};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

/// The number of annotators of a question, as in VQA-v2.
const ANNOTATORS: usize = 10;
const NUMBERS: [(&str, &str); MAX_COUNT] =
    [("1", "one"), ("2", "two"), ("3", "three"), ("4", "four")];
/// The answer of an annotator who does not know. It is not in the answer dictionary.
const NO_IDEA: &str = "not sure";

/// A phrasing: the question type of VQA-v2, and the text with `{object}`, `{color}` and `{category}`.
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

/// The parts of a question: answer type, (question type, text), true answer.
type Asked = (&'static str, (&'static str, String), &'static str);

/// A question with all fields of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) image_id: u64,
    pub(super) question_id: u64,
    pub(super) text: String,
    /// `yes/no`, `number` or `other`.
    pub(super) answer_type: &'static str,
    /// The first words of the question, as in VQA-v2.
    pub(super) question_type: &'static str,
    /// The true answer.
    pub(super) truth: &'static str,
    /// The answers of the annotators, as they wrote them.
    pub(super) answers: Vec<String>,
}

/// Makes questions about one scene.
pub(super) struct Asker<'a, R> {
    pub(super) scene: &'a Scene,
    pub(super) random: &'a mut R,
}

impl<R: Rng> Asker<'_, R> {
    /// A question with its answers. The four kinds of question (yes or no, colour, count, thing) are equally likely.
    pub(super) fn ask(&mut self, image_id: u64, question_id: u64) -> Question {
        let (answer_type, (question_type, text), truth) = match self.random.random_range(0..4) {
            0 => self.yes_no(),
            1 => self.color(),
            2 => self.count(),
            _ => self.thing(),
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

    fn color(&mut self) -> Asked {
        let group = self.group();
        let phrase = self.phrase(&WHAT_COLOR, &group);
        ("other", phrase, COLORS[group.color])
    }

    fn count(&mut self) -> Asked {
        let group = self.group();
        let phrase = self.phrase(&HOW_MANY, &group);
        ("number", phrase, NUMBERS[group.count - 1].0)
    }

    fn thing(&mut self) -> Asked {
        let group = self.group();
        // "What animal" has one answer only if the scene has one kind of animal.
        let (object, category) = OBJECTS[group.object];
        let groups = self.scene.groups.iter();
        let same = groups.filter(|other| OBJECTS[other.object].1 == category);
        let alone = same.count() == 1;
        let by_category = alone && self.random.random();
        let phrasings = if by_category { &WHICH_OF } else { &WHAT_IS };
        ("other", self.phrase(phrasings, &group), object)
    }

    /// Asks for yes or no. Both are equally likely for every phrasing.
    fn yes_no(&mut self) -> Asked {
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

/// All answers, in the order of the answer dictionary.
pub(super) fn all_answers() -> impl Iterator<Item = &'static str> {
    sorts().concat().into_iter()
}

/// The answers of each sort: yes or no, numbers, colours, things.
fn sorts() -> [Vec<&'static str>; 4] {
    [
        vec!["yes", "no"],
        NUMBERS.map(|(digit, _)| digit).to_vec(),
        COLORS.to_vec(),
        OBJECTS.map(|(object, _)| object).to_vec(),
    ]
}

/// The wrong answers that a careless annotator might give.
fn alternatives(truth: &str) -> Vec<&'static str> {
    let sort = sorts().into_iter().find(|sort| sort.contains(&truth));
    let others = sort.unwrap_or_default().into_iter();
    others
        .filter(|answer| *answer != truth)
        .chain([NO_IDEA])
        .collect()
}

/// The answers of ten annotators; the true one is the most frequent. At most two answers are wrong, and one may be a
/// spelling whose normal form is the true answer. One question of ten is contested: seven answers are wrong (three for yes
/// or no).
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

/// `truth` as an annotator in a hurry writes it.
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
