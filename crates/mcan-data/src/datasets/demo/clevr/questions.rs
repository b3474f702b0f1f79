//! Questions about scenes in the style of CLEVR, with the true answer and the program that finds it.
//!
//! The kinds of things of a scene stand for combinations of a size, a material and a shape. Questions name things by their
//! colour, which is learned quickly, where this does not give the answer away. As two groups never have the same colour, no
//! question compares colours.

use crate::datasets::demo::world::{COLORS, Group, MAX_COUNT, OBJECTS, Scene};
use rand::Rng;
use serde_json::{Value, json};

/// A kind of things: size, material, shape.
type Look = [&'static str; 3];

const LOOKS: [Look; OBJECTS.len()] = [
    ["large", "metal", "sphere"],
    ["small", "metal", "sphere"],
    ["small", "rubber", "sphere"],
    ["large", "metal", "cube"],
    ["small", "metal", "cube"],
    ["small", "rubber", "cube"],
    ["large", "metal", "cylinder"],
    ["large", "rubber", "cylinder"],
    ["small", "rubber", "cylinder"],
];
/// The attributes of a [`Look`].
const ATTRIBUTES: [&str; 3] = ["size", "material", "shape"];
const NUMBERS: [&str; MAX_COUNT] = ["1", "2", "3", "4"];

/// One function of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) function: String,
    /// The steps whose results the function takes.
    pub(super) inputs: Vec<usize>,
    /// The value that a filter keeps.
    pub(super) value: Option<&'static str>,
}

impl Step {
    pub(super) fn json(&self) -> Value {
        let values: Vec<&str> = self.value.into_iter().collect();
        json!({"function": self.function, "inputs": self.inputs, "value_inputs": values})
    }
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) answer: &'static str,
    pub(super) program: Vec<Step>,
    /// The number of the phrasing.
    pub(super) family: usize,
}

/// A description of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Things {
    /// Those of a kind, an index into [`LOOKS`].
    Kind(usize),
    /// Those of a colour, an index into [`COLORS`].
    Color(usize),
    /// Those with this value of an attribute, an index into [`ATTRIBUTES`].
    With(usize, &'static str),
}

impl Things {
    /// The plural: `small metal cubes`, `red things`.
    fn text(self) -> String {
        match self {
            Things::Kind(kind) => format!("{}s", LOOKS[kind].join(" ")),
            Things::Color(color) => format!("{} things", COLORS[color]),
            Things::With(attribute, value) if ATTRIBUTES[attribute] == "shape" => {
                format!("{value}s")
            }
            Things::With(_, value) => format!("{value} things"),
        }
    }

    /// Appends the steps that find these things.
    fn find(self, program: &mut Vec<Step>) {
        let filters: Vec<_> = match self {
            Things::Kind(kind) => ATTRIBUTES.into_iter().zip(LOOKS[kind]).collect(),
            Things::Color(color) => vec![("color", COLORS[color])],
            Things::With(attribute, value) => vec![(ATTRIBUTES[attribute], value)],
        };
        push(program, "scene", &[], None);
        for (attribute, value) in filters {
            then(program, &format!("filter_{attribute}"), Some(value));
        }
    }
}

fn push(program: &mut Vec<Step>, function: &str, inputs: &[usize], value: Option<&'static str>) {
    program.push(Step {
        function: function.to_owned(),
        inputs: inputs.to_vec(),
        value,
    });
}

/// Appends a function of the result of the last step.
fn then(program: &mut Vec<Step>, function: &str, value: Option<&'static str>) {
    let last = program.len() - 1;
    push(program, function, &[last], value);
}

/// The program that applies `last` to the results of the functions `each` on two sets of things.
fn compare(sets: [Things; 2], each: &[&str], last: &str) -> Vec<Step> {
    let mut program = Vec::new();
    let ends = sets.map(|things| {
        things.find(&mut program);
        for function in each {
            then(&mut program, function, None);
        }
        program.len() - 1
    });
    push(&mut program, last, &ends, None);
    program
}

/// The program that applies the functions `each` to one set of things.
fn apply(things: Things, each: &[&str]) -> Vec<Step> {
    let mut program = Vec::new();
    things.find(&mut program);
    for function in each {
        then(&mut program, function, None);
    }
    program
}

/// Makes questions about one scene.
pub(super) struct Asker<'a, R> {
    pub(super) scene: &'a Scene,
    pub(super) random: &'a mut R,
}

impl<R: Rng> Asker<'_, R> {
    /// A question with its answer. The five types of questions are equally likely, unless the scene has no things for one.
    pub(super) fn ask(&mut self) -> Question {
        loop {
            let question = match self.random.random_range(0..5) {
                0 => Some(self.count()),
                1 => Some(self.exist()),
                2 => self.compare_numbers(),
                3 => Some(self.query()),
                _ => self.compare_attributes(),
            };
            if let Some(question) = question {
                return question;
            }
        }
    }

    fn count(&mut self) -> Question {
        let group = self.group();
        let things = Things::Color(group.color);
        let (text, family) = (things.text(), self.random.random_range(0..2));
        let text = match family {
            0 => format!("How many {text} are there?"),
            _ => format!("What number of {text} are there?"),
        };
        Question {
            text,
            answer: NUMBERS[group.count - 1],
            program: apply(things, &["count"]),
            family,
        }
    }

    /// Asks whether there are things of a colour; yes and no are equally likely.
    fn exist(&mut self) -> Question {
        let truth: bool = self.random.random();
        let is_there = |color| self.scene.groups.iter().any(|group| group.color == color);
        let colors = (0..COLORS.len()).filter(|color| is_there(*color) == truth);
        let colors: Vec<usize> = colors.collect();
        let things = Things::Color(colors[self.random.random_range(0..colors.len())]);
        Question {
            text: format!("Are there any {}?", things.text()),
            answer: yes_no(truth),
            program: apply(things, &["exist"]),
            family: 2,
        }
    }

    /// Compares the different numbers of the things of two colours; none if the scene has no such groups.
    fn compare_numbers(&mut self) -> Option<Question> {
        let asks_more: bool = self.random.random();
        let ([a, b], truth) = self.pair(|a, b| match asks_more {
            _ if a.count == b.count => None,
            true => Some(a.count > b.count),
            false => Some(a.count < b.count),
        })?;
        let sets = [a, b].map(|group| Things::Color(group.color));
        let [a, b] = sets.map(Things::text);
        let (word, function, family) = match asks_more {
            true => ("more", "greater_than", 3),
            false => ("fewer", "less_than", 4),
        };
        Some(Question {
            text: format!("Are there {word} {a} than {b}?"),
            answer: yes_no(truth),
            program: compare(sets, &["count"], function),
            family,
        })
    }

    fn query(&mut self) -> Question {
        let group = self.group();
        let (kind, color) = (Things::Kind(group.object), Things::Color(group.color));
        // Names of kinds have three words, so questions about the colour take the most practice.
        let attribute = self.random.random_range(0..2 * ATTRIBUTES.len());
        let (things, answer, name) = match ATTRIBUTES.get(attribute) {
            Some(name) => (color, LOOKS[group.object][attribute], *name),
            None => (kind, COLORS[group.color], "color"),
        };
        let text = things.text();
        let text = match name {
            "material" => format!("What are the {text} made of?"),
            _ => format!("What {name} are the {text}?"),
        };
        Question {
            text,
            answer,
            program: apply(things, &["unique", &format!("query_{name}")]),
            family: 5 + attribute.min(ATTRIBUTES.len()),
        }
    }

    /// Compares an attribute of the things of a colour with that of other things, which are named by it; none if the scene
    /// has no such groups.
    fn compare_attributes(&mut self) -> Option<Question> {
        let attribute = self.random.random_range(0..ATTRIBUTES.len());
        let value = |group: Group| LOOKS[group.object][attribute];
        let ([a, b], truth) = self.pair(|a, b| Some(value(a) == value(b)))?;
        let sets = [Things::Color(a.color), Things::With(attribute, value(b))];
        let ([a, b], name) = (sets.map(Things::text), ATTRIBUTES[attribute]);
        let text = match name {
            "material" => format!("Are the {a} made of the same material as the {b}?"),
            _ => format!("Do the {a} have the same {name} as the {b}?"),
        };
        let query = format!("query_{name}");
        Some(Question {
            text,
            answer: yes_no(truth),
            program: compare(sets, &["unique", &query], &format!("equal_{name}")),
            family: 9 + attribute,
        })
    }

    /// Two groups for which `is_true` is the returned answer: yes or no with equal probability. None if the scene has no
    /// such groups. Pairs for which `is_true` has no answer are left out.
    fn pair(
        &mut self,
        is_true: impl Fn(Group, Group) -> Option<bool>,
    ) -> Option<([Group; 2], bool)> {
        let truth = self.random.random();
        let groups = &self.scene.groups;
        let pairs = groups
            .iter()
            .flat_map(|a| groups.iter().map(move |b| [*a, *b]));
        let fits = |[a, b]: &[Group; 2]| a.color != b.color && is_true(*a, *b) == Some(truth);
        let pairs: Vec<[Group; 2]> = pairs.filter(fits).collect();
        let number = self.random.random_range(0..pairs.len().max(1));
        Some((*pairs.get(number)?, truth))
    }

    fn group(&mut self) -> Group {
        self.scene.groups[self.random.random_range(0..self.scene.groups.len())]
    }
}

fn yes_no(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
}
