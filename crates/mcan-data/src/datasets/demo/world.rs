//! Scenes, and the region features that a detector would have made of them.
//!
//! A scene has a few kinds of things, each in one colour and one to four of them in a row. A thing is one region; its
//! feature is the noisy sum of three fixed prototypes: what it is, its colour, and its place in the row (which is what
//! counting goes by). Other regions are background.

use rand::Rng;
use rand::seq::SliceRandom;

/// Width of a feature, that of the published ones, so that any configuration fits.
pub const FEATURE_SIZE: usize = 2048;
/// Features are multiples of 1/8, which deflate well and are exact in half precision.
const LEVELS_PER_UNIT: f32 = 8.0;
/// Most things of a kind in a scene.
pub const MAX_COUNT: usize = 4;
/// Kinds of background.
pub const BACKGROUNDS: usize = 6;
const IMAGE_WIDTH: u16 = 640;
const IMAGE_HEIGHT: u16 = 480;

/// What there can be, with its category.
pub const OBJECTS: [(&str, &str); 9] = [
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
/// In which colours.
pub const COLORS: [&str; 8] = [
    "red", "blue", "green", "yellow", "black", "white", "brown", "pink",
];

/// Some things of one kind and colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Index into [`OBJECTS`]; no two groups of a scene share it.
    pub object: usize,
    /// Index into [`COLORS`]; no two groups of a scene share it.
    pub color: usize,
    /// 1 to [`MAX_COUNT`].
    pub count: usize,
}

/// What is in an image: two to four groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// In no particular order.
    pub groups: Vec<Group>,
}

impl Scene {
    /// A scene in which every kind, colour and count is equally likely.
    pub fn draw(random: &mut impl Rng) -> Scene {
        let groups = random.random_range(2..=4);
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

/// What a detector says about one image, in the units of the published `.npz` files.
pub struct Regions {
    /// (n, [`FEATURE_SIZE`]), not negative, no row all zero.
    pub features: Vec<f32>,
    /// (n) left, top, right, bottom, in pixels.
    pub boxes: Vec<[f32; 4]>,
    /// Pixels.
    pub width: i64,
    /// Pixels.
    pub height: i64,
}

/// (`FEATURE_SIZE`) levels of 1/8.
type Prototype = Vec<i32>;

/// The prototypes of a world; every split shares them.
pub struct Painter {
    pub(super) objects: Vec<Prototype>,
    pub(super) colors: Vec<Prototype>,
    pub(super) places: Vec<Prototype>,
    pub(super) backgrounds: Vec<Prototype>,
}

impl Painter {
    /// Draws the prototypes: non-negative, one value in eight not zero, like a rectified layer's.
    pub fn new(random: &mut impl Rng) -> Painter {
        let mut prototypes = |count: usize| -> Vec<Prototype> {
            let mut value = || {
                if random.random_ratio(1, 8) {
                    random.random_range(1..=16)
                } else {
                    0
                }
            };
            (0..count)
                .map(|_| (0..FEATURE_SIZE).map(|_| value()).collect())
                .collect()
        };
        Painter {
            objects: prototypes(OBJECTS.len()),
            colors: prototypes(COLORS.len()),
            places: prototypes(MAX_COUNT),
            backgrounds: prototypes(BACKGROUNDS),
        }
    }

    /// The regions of a scene, things and three to six pieces of background, in random order.
    pub fn regions(&self, scene: &Scene, random: &mut impl Rng) -> Regions {
        let mut parts: Vec<(Vec<&Prototype>, [f32; 4])> = Vec::new();
        for (row, group) in scene.groups.iter().enumerate() {
            for place in 0..group.count {
                let looks = vec![
                    &self.objects[group.object],
                    &self.colors[group.color],
                    &self.places[place],
                ];
                parts.push((looks, cell(row, place)));
            }
        }
        for _ in 0..random.random_range(3..=6) {
            let background = &self.backgrounds[random.random_range(0..BACKGROUNDS)];
            parts.push((
                vec![background],
                [0.0, 0.0, IMAGE_WIDTH.into(), IMAGE_HEIGHT.into()],
            ));
        }
        parts.shuffle(random);
        let mut features = Vec::with_capacity(parts.len() * FEATURE_SIZE);
        for (looks, _) in &parts {
            features.extend((0..FEATURE_SIZE).map(|i| {
                let clean: i32 = looks.iter().map(|prototype| prototype[i]).sum();
                (clean + noise(random)).max(0) as f32 / LEVELS_PER_UNIT
            }));
        }
        let boxes = parts.iter().map(|(_, region)| *region).collect();
        Regions {
            features,
            boxes,
            width: IMAGE_WIDTH.into(),
            height: IMAGE_HEIGHT.into(),
        }
    }
}

/// In three values of four nothing, else up to one unit up or down.
fn noise(random: &mut impl Rng) -> i32 {
    let bits: u32 = random.random();
    if bits & 3 == 0 {
        (bits >> 2) as i32 % 9 * if bits >> 31 == 0 { 1 } else { -1 }
    } else {
        0
    }
}

/// The box of a thing: a row of the image for each group, a column for each place in it.
fn cell(row: usize, place: usize) -> [f32; 4] {
    let (width, height) = (
        f32::from(IMAGE_WIDTH) / MAX_COUNT as f32,
        f32::from(IMAGE_HEIGHT) / 4.0,
    );
    let (left, top) = (place as f32 * width, row as f32 * height);
    [left, top, left + width, top + height]
}
