//! A place in its work at which the program waits until it is let on, so that what a test does then does not depend on how
//! fast the machine is.

use super::World;
use mcan::data::loader::shuffled;
use mcan::datasets::vqa2::AnnotationFile;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command};
use std::thread::sleep;
use std::time::Duration;

/// A file of features that is a pipe: who reads it waits for the test.
pub struct Gate {
    file: PathBuf,
    aside: PathBuf,
}

impl Gate {
    /// Makes a pipe of `file`.
    pub fn at(file: &Path) -> Gate {
        let aside = file.with_extension("aside");
        fs::rename(file, &aside).unwrap();
        assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        Gate {
            file: file.to_owned(),
            aside,
        }
    }

    /// Waits until the program has come to the file.
    pub fn wait(self, child: &mut Child) -> Reached {
        // Without a reader a pipe cannot be opened for writing in this way. Once it is, it stays open: a reader that finds
        // nobody at the other end takes the file for an empty one.
        let open = || {
            OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&self.file)
        };
        let pipe = loop {
            match open() {
                Ok(pipe) => break pipe,
                Err(_) => {
                    assert!(
                        child.try_wait().unwrap().is_none(),
                        "it ended before it came to {}",
                        self.file.display()
                    );
                    sleep(Duration::from_millis(1));
                }
            }
        };
        // What is written waits for the reader again.
        rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::empty()).unwrap();
        Reached { pipe, gate: self }
    }
}

/// The program waits.
pub struct Reached {
    pipe: File,
    gate: Gate,
}

impl Reached {
    /// Lets it on: here it reads what was in the file, and from now on the file itself.
    pub fn open(mut self) {
        let content = fs::read(&self.gate.aside).unwrap();
        fs::rename(&self.gate.aside, &self.gate.file).unwrap();
        self.pipe.write_all(&content).unwrap();
    }

    /// Puts the file back, for others to read.
    pub fn close(self) {
        fs::rename(&self.gate.aside, &self.gate.file).unwrap();
    }
}

/// What a program says on standard error, read as it says it.
pub struct Told {
    lines: BufReader<ChildStderr>,
    text: String,
}

impl Told {
    pub fn by(child: &mut Child) -> Told {
        Told {
            lines: BufReader::new(child.stderr.take().unwrap()),
            text: String::new(),
        }
    }

    /// Reads on until it has said `part`.
    pub fn until(&mut self, part: &str) {
        while !self.text.contains(part) {
            assert!(
                self.lines.read_line(&mut self.text).unwrap() > 0,
                "it did not say {part:?}: {}",
                self.text
            );
        }
    }

    /// Everything, once it has ended.
    pub fn all(mut self) -> String {
        while self.lines.read_line(&mut self.text).unwrap() > 0 {}
        self.text
    }
}

/// The file of the image that a training of these flags (with `SHUFFLE_MODE=external`) comes to last in an epoch (from 0),
/// but before its last step, and the step of the epoch (from 1) in which it does.
pub fn last_image(world: &World, flags: &[&str], epoch: u64) -> (PathBuf, usize) {
    let config = world.config(flags);
    let annotations = world
        .root
        .join("datasets/vqa/v2_mscoco_train2014_annotations.json");
    let annotations = AnnotationFile::read(&annotations).unwrap();
    let annotations = annotations.annotations();
    let batch_size = config.train.batch_size;
    let order = shuffled(annotations.len(), config.run.seed.unwrap(), epoch);
    let first_use = |image: u64| {
        order
            .iter()
            .position(|&at| annotations[at].image_id == image)
    };
    let step_of = |image: u64| Some((first_use(image)? / batch_size + 1, image));
    let steps = order.len() / batch_size;
    let uses = annotations
        .iter()
        .filter_map(|annotation| step_of(annotation.image_id));
    let (step, image) = uses.filter(|(step, _)| *step < steps).max().unwrap();
    (
        world.root.join(format!(
            "datasets/coco_extract/train2014/COCO_train2014_{image:012}.jpg.npz"
        )),
        step,
    )
}
