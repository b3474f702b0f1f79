//! Scenes, and their features: regions as a detector would make them, and grids as a convolutional network would.
//!
//! A scene has some kinds of things. Each kind has one colour, and one to four things in a row. A thing is a region, and a
//! cell of the grid. Its feature is the sum of noise and three fixed prototypes: of its kind, its colour, and its place in
//! the row, which makes things countable. Other regions and cells are background.

use rand::Rng;
use rand::seq::SliceRandom;

/// The width of a region's feature, as of the published features, so that every configuration fits.
pub(super) const REGION_WIDTH: usize = 2048;
/// The width of a cell's feature, as of CLEVR's published features.
pub(super) const CELL_WIDTH: usize = 1024;
/// The cells of a grid: each of its rows is a row of the scene.
pub(super) const CELLS: usize = ROWS * MAX_COUNT;
/// Features are multiples of 1/8, which compress well and are exact in half precision.
const LEVELS_PER_UNIT: f32 = 8.0;
/// The largest number of things of a kind in a scene.
pub(super) const MAX_COUNT: usize = 4;
/// The largest number of groups of a scene.
const ROWS: usize = 4;
/// The number of kinds of background.
pub(super) const BACKGROUNDS: usize = 6;
const IMAGE_WIDTH: u16 = 640;
const IMAGE_HEIGHT: u16 = 480;

/// The kinds of things, with their categories.
pub(super) const OBJECTS: [(&str, &str); 9] = [
    ("dog", "animal"),
    ("cat", "animal"),
    ("horse", "animal"),
    ("car", "vehicle"),
    ("truck", "vehicle"),
    ("bike", "vehicle"),
    ("chair", "furniture"),
    ("table", "furniture"),
    ("lamp", "furniture"),
];
/// The colours.
pub(super) const COLORS: [&str; 8] = [
    "red", "blue", "green", "yellow", "black", "white", "brown", "pink",
];

/// The things of one kind in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Index into [`OBJECTS`]; no two groups of a scene share it.
    pub(super) object: usize,
    /// Index into [`COLORS`]; no two groups of a scene share it.
    pub(super) color: usize,
    /// The number of things, 1 to [`MAX_COUNT`].
    pub(super) count: usize,
}

/// The content of an image: two to four groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scene {
    /// The groups, in random order.
    pub(super) groups: Vec<Group>,
}

impl Scene {
    /// Draws a scene. All kinds, colours and counts are equally likely.
    pub(super) fn draw(random: &mut impl Rng) -> Scene {
        let groups = random.random_range(2..=ROWS);
        let objects = rand::seq::index::sample(random, OBJECTS.len(), groups);
        let colors = rand::seq::index::sample(random, COLORS.len(), groups);
        let pairs = objects.into_iter().zip(colors);
        Scene {
            groups: pairs
                .map(|(object, color)| Group {
                    object,
                    color,
                    count: random.random_range(1..=MAX_COUNT),
                })
                .collect(),
        }
    }
}

/// The regions of one image, in the units of the published `.npz` files.
pub(super) struct Regions {
    /// (n, F) values, not negative; no row is all zeros.
    pub(super) features: Vec<f32>,
    /// (n) left, top, right, bottom, in pixels.
    pub(super) boxes: Vec<[f32; 4]>,
    /// Width of the image in pixels.
    pub(super) width: i64,
    /// Height of the image in pixels.
    pub(super) height: i64,
}

/// (F) values in units of 1/8.
type Prototype = Vec<i32>;

/// The prototypes of the features of a data set. All splits share them.
pub(super) struct Painter {
    /// F, the width of a feature.
    pub(super) width: usize,
    pub(super) objects: Vec<Prototype>,
    pub(super) colors: Vec<Prototype>,
    pub(super) places: Vec<Prototype>,
    pub(super) backgrounds: Vec<Prototype>,
}

impl Painter {
    /// Draws prototypes of `width` values. They are like outputs of a ReLU layer: not negative, and one value of eight is not zero.
    pub(super) fn new(width: usize, random: &mut impl Rng) -> Painter {
        let mut prototypes = |count: usize| -> Vec<Prototype> {
            let mut value = || {
                if random.random_ratio(1, 8) {
                    random.random_range(1..=16)
                } else {
                    0
                }
            };
            (0..count)
                .map(|_| (0..width).map(|_| value()).collect())
                .collect()
        };
        Painter {
            width,
            objects: prototypes(OBJECTS.len()),
            colors: prototypes(COLORS.len()),
            places: prototypes(MAX_COUNT),
            backgrounds: prototypes(BACKGROUNDS),
        }
    }

    /// Makes the regions of a scene: its things and three to six regions of background, in random order.
    pub(super) fn regions(&self, scene: &Scene, random: &mut impl Rng) -> Regions {
        let mut parts: Vec<(Vec<&Prototype>, [f32; 4])> = Vec::new();
        for (row, group) in scene.groups.iter().enumerate() {
            for place in 0..group.count {
                parts.push((self.looks(group, place), cell(row, place)));
            }
        }
        for _ in 0..random.random_range(3..=6) {
            let whole = [0.0, 0.0, IMAGE_WIDTH.into(), IMAGE_HEIGHT.into()];
            parts.push((vec![self.background(random)], whole));
        }
        parts.shuffle(random);
        let mut features = Vec::with_capacity(parts.len() * self.width);
        for (looks, _) in &parts {
            self.paint(looks, random, &mut features);
        }
        let boxes = parts.iter().map(|(_, region)| *region).collect();
        Regions {
            features,
            boxes,
            width: IMAGE_WIDTH.into(),
            height: IMAGE_HEIGHT.into(),
        }
    }

    /// Makes the grid of a scene, row after row. A cell without a thing is background.
    ///
    /// # Shapes
    /// -> ([`CELLS`], F)
    pub(super) fn grid(&self, scene: &Scene, random: &mut impl Rng) -> Vec<f32> {
        let mut features = Vec::with_capacity(CELLS * self.width);
        for number in 0..CELLS {
            let (row, place) = (number / MAX_COUNT, number % MAX_COUNT);
            let group = scene.groups.get(row).filter(|group| place < group.count);
            let looks = match group {
                Some(group) => self.looks(group, place),
                None => vec![self.background(random)],
            };
            self.paint(&looks, random, &mut features);
        }
        features
    }

    /// The prototypes of one thing of a group.
    fn looks(&self, group: &Group, place: usize) -> Vec<&Prototype> {
        vec![
            &self.objects[group.object],
            &self.colors[group.color],
            &self.places[place],
        ]
    }

    fn background(&self, random: &mut impl Rng) -> &Prototype {
        &self.backgrounds[random.random_range(0..BACKGROUNDS)]
    }

    /// Appends the sum of the prototypes, with noise.
    fn paint(&self, looks: &[&Prototype], random: &mut impl Rng, features: &mut Vec<f32>) {
        features.extend((0..self.width).map(|i| {
            let clean: i32 = looks.iter().map(|prototype| prototype[i]).sum();
            (clean + noise(random)).max(0) as f32 / LEVELS_PER_UNIT
        }));
    }
}

/// Noise: 0 with a probability of 3/4, else up to one unit up or down.
fn noise(random: &mut impl Rng) -> i32 {
    let bits: u32 = random.random();
    if bits & 3 == 0 {
        (bits >> 2) as i32 % 9 * if bits >> 31 == 0 { 1 } else { -1 }
    } else {
        0
    }
}

/// The box of a thing. Groups are rows of the image, and places are columns.
fn cell(row: usize, place: usize) -> [f32; 4] {
    let (width, height) = (
        f32::from(IMAGE_WIDTH) / MAX_COUNT as f32,
        f32::from(IMAGE_HEIGHT) / ROWS as f32,
    );
    let (left, top) = (place as f32 * width, row as f32 * height);
    [left, top, left + width, top + height]
}
