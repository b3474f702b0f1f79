//! Questions about scenes in the style of GQA, with the answer, the steps that find it, and the types of the question.

use crate::datasets::demo::world::{COLORS, Group, OBJECTS, Scene};
use rand::Rng;
use serde_json::{Value, json};

const YES_NO: [&str; 2] = ["yes", "no"];

/// A step of the semantic form of a question: operation, argument, and the steps whose results it takes.
type Step = (&'static str, String, Vec<usize>);

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) answer: &'static str,
    /// `structural`, `semantic` and `detailed`.
    pub(super) types: [&'static str; 3],
    /// The group whose answers the metric compares: a kind of answers; none for yes or no.
    pub(super) global: Option<&'static str>,
    pub(super) steps: Vec<Step>,
    /// The answers of the right kind.
    pub(super) valid: Vec<&'static str>,
    /// The valid answers that make sense.
    pub(super) plausible: Vec<&'static str>,
}

impl Question {
    pub(super) fn semantic(&self) -> Value {
        let step = |(operation, argument, dependencies): &Step| json!({"operation": operation, "argument": argument, "dependencies": dependencies});
        self.steps.iter().map(step).collect()
    }

    pub(super) fn semantic_str(&self) -> String {
        let step = |(operation, argument, dependencies): &Step| {
            let inputs = dependencies.iter().map(|input| format!(" [{input}]"));
            format!("{operation}: {argument}{}", inputs.collect::<String>())
        };
        self.steps.iter().map(step).collect::<Vec<_>>().join("->")
    }
}

/// Makes questions about one scene.
pub(super) struct Asker<'a, R> {
    pub(super) scene: &'a Scene,
    pub(super) random: &'a mut R,
}

impl<R: Rng> Asker<'_, R> {
    /// A question, and the questions whose answers follow from its answer. Questions about several things, which are learned
    /// more slowly, are half as frequent as the other kinds.
    pub(super) fn ask(&mut self) -> (Question, Vec<Question>) {
        let question = match self.random.random_range(0..12) {
            0 | 1 => {
                let group = self.group();
                let entailed = vec![self.choose_color(group), self.verify_color(group)];
                return (self.query_color(group), entailed);
            }
            2 | 3 => self.query_name(),
            4 | 5 => {
                let group = self.group();
                self.choose_color(group)
            }
            6 | 7 => {
                let group = self.group();
                self.verify_color(group)
            }
            8 | 9 => self.exist(),
            10 => self.exist_two(),
            _ => self.more().unwrap_or_else(|| self.exist()),
        };
        (question, Vec::new())
    }

    fn query_color(&mut self, group: Group) -> Question {
        let name = OBJECTS[group.object].0;
        let text = match self.random.random_range(0..3) {
            0 => format!("What color is the {name}?"),
            1 => format!("What is the color of the {name}?"),
            _ => format!("Which color does the {name} have?"),
        };
        Question {
            text,
            answer: COLORS[group.color],
            types: ["query", "attr", "directOf"],
            global: Some("color"),
            steps: vec![
                self.select(group.object),
                ("query", "color".into(), vec![0]),
            ],
            valid: COLORS.to_vec(),
            plausible: COLORS.to_vec(),
        }
    }

    fn choose_color(&mut self, group: Group) -> Question {
        let mut colors = [COLORS[group.color], COLORS[self.other_color(group)]];
        if self.random.random() {
            colors.reverse();
        }
        let ([one, two], name) = (colors, OBJECTS[group.object].0);
        Question {
            text: format!("Is the {name} {one} or {two}?"),
            answer: COLORS[group.color],
            types: ["choose", "attr", "chooseAttr"],
            global: Some("color"),
            steps: vec![
                self.select(group.object),
                ("choose color", format!("{one}|{two}"), vec![0]),
            ],
            valid: colors.to_vec(),
            plausible: colors.to_vec(),
        }
    }

    fn verify_color(&mut self, group: Group) -> Question {
        let truth = self.random.random();
        let color = match truth {
            true => COLORS[group.color],
            false => COLORS[self.other_color(group)],
        };
        let select = self.select(group.object);
        verify(
            format!("Is the {} {color}?", OBJECTS[group.object].0),
            truth,
            ["verify", "attr", "verifyAttr"],
            vec![select, ("verify color", color.into(), vec![0])],
        )
    }

    /// Asks for the name of a thing by its category, if it is the only group of its category, or by its colour.
    fn query_name(&mut self) -> Question {
        let group = self.group();
        let ((name, category), color) = (OBJECTS[group.object], COLORS[group.color]);
        let groups = self.scene.groups.iter();
        let same = groups.filter(|other| OBJECTS[other.object].1 == category);
        let is_alone = same.count() == 1;
        let all = OBJECTS.map(|(name, _)| name).to_vec();
        let query = |from| ("query", "name".to_owned(), vec![from]);
        if is_alone && self.random.random() {
            let of_category = OBJECTS.iter().filter(|(_, other)| *other == category);
            return Question {
                text: format!("What {category} is in the picture?"),
                answer: name,
                types: ["query", "cat", "categoryThis"],
                global: Some(category),
                steps: vec![
                    (
                        "select",
                        format!("{category} ({})", self.id(group.object)),
                        vec![],
                    ),
                    query(0),
                ],
                valid: all,
                plausible: of_category.map(|(name, _)| *name).collect(),
            };
        }
        Question {
            text: format!("What is the {color} thing?"),
            answer: name,
            types: ["query", "obj", "objThisC"],
            global: Some("object"),
            steps: vec![
                ("select", "this".into(), vec![]),
                ("filter color", color.into(), vec![0]),
                query(1),
            ],
            valid: all.clone(),
            plausible: all,
        }
    }

    fn exist(&mut self) -> Question {
        let truth = self.random.random();
        let object = self.object(truth);
        let name = OBJECTS[object].0;
        let text = match self.random.random() {
            true => format!("Is there a {name} in the picture?"),
            false => format!("Do you see any {name}s?"),
        };
        let steps = vec![self.select(object), ("exist", "?".into(), vec![0])];
        verify(text, truth, ["verify", "obj", "exist"], steps)
    }

    /// Asks for both of two things, or for one of them. Yes and no are equally likely.
    fn exist_two(&mut self) -> Question {
        let (is_both, truth): (bool, bool) = (self.random.random(), self.random.random());
        // The second thing alone decides: of "both" the first is there, of "either" it is not.
        let first = self.object(is_both);
        let mut second = self.object(truth);
        while second == first {
            second = self.object(truth);
        }
        let mut two = [first, second];
        if self.random.random() {
            two.reverse();
        }
        let [one, other] = two.map(|object| OBJECTS[object].0);
        let (text, last, detailed) = match is_both {
            true => (
                format!("Are there both {one}s and {other}s?"),
                "and",
                "existAnd",
            ),
            false => (
                format!("Are there either {one}s or {other}s?"),
                "or",
                "existOr",
            ),
        };
        let [one, two] = two.map(|object| self.select(object));
        let exist = |from| ("exist", "?".to_owned(), vec![from]);
        let steps = vec![
            one,
            exist(0),
            two,
            exist(2),
            (last, String::new(), vec![1, 3]),
        ];
        verify(text, truth, ["logical", "obj", detailed], steps)
    }

    /// Asks of which of two things there are more; none if the scene has no two groups of different numbers.
    fn more(&mut self) -> Option<Question> {
        let group = self.group();
        let others = self.scene.groups.iter().copied();
        let others: Vec<Group> = others.filter(|other| other.count != group.count).collect();
        let other = *others.get(self.random.random_range(0..others.len().max(1)))?;
        let [one, two] = [group, other].map(|group| OBJECTS[group.object].0);
        let answer = if group.count > other.count { one } else { two };
        Some(Question {
            text: format!("Of which are there more, {one}s or {two}s?"),
            answer,
            types: ["compare", "obj", "comparativeChoose"],
            global: None,
            steps: vec![
                self.select(group.object),
                self.select(other.object),
                ("choose more", "?".into(), vec![0, 1]),
            ],
            valid: vec![one, two],
            plausible: vec![one, two],
        })
    }

    fn group(&mut self) -> Group {
        self.scene.groups[self.random.random_range(0..self.scene.groups.len())]
    }

    fn other_color(&mut self, group: Group) -> usize {
        (group.color + self.random.random_range(1..COLORS.len())) % COLORS.len()
    }

    /// A kind of things that is in the scene, or one that is not.
    fn object(&mut self, is_there: bool) -> usize {
        let fits = |object: &usize| {
            let mut groups = self.scene.groups.iter();
            groups.any(|group| group.object == *object) == is_there
        };
        let objects: Vec<usize> = (0..OBJECTS.len()).filter(fits).collect();
        objects[self.random.random_range(0..objects.len())]
    }

    /// The step that finds a kind of things, with the number of the object in the scene.
    fn select(&self, object: usize) -> Step {
        let argument = format!("{} ({})", OBJECTS[object].0, self.id(object));
        ("select", argument, Vec::new())
    }

    /// The number of the object in the scene; `-` for one that is not there.
    fn id(&self, object: usize) -> String {
        let found = self
            .scene
            .groups
            .iter()
            .position(|group| group.object == object);
        found.map_or_else(|| "-".into(), |id| id.to_string())
    }
}

/// A question for yes or no.
fn verify(text: String, truth: bool, types: [&'static str; 3], steps: Vec<Step>) -> Question {
    Question {
        text,
        answer: if truth { "yes" } else { "no" },
        types,
        global: None,
        steps,
        valid: YES_NO.to_vec(),
        plausible: YES_NO.to_vec(),
    }
}
