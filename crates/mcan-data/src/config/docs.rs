//! The table of keys as a page of the documentation.

use super::table::{Key, OnResume, Scope};
use super::{Schema, common_keys};
use std::fmt::Write;

/// The page `docs/src/keys.md`.
pub fn markdown(schema: &Schema) -> String {
    let mut page = String::from(
        "# Configuration keys\n\n\
         This page is made from the table of keys in the program. Every key can be set in a configuration file \
         (`KEY: value`) and with `--SET KEY=VALUE`; some have a flag of their own. Flags win over `--SET`, which wins \
         over the file, which wins over the defaults. A key marked * is unknown to the reference.\n\n\
         Resume: a key marked \"same\" must have the value of the checkpoint when a run continues; a key marked \"same within \
         an epoch\", only when it continues in the middle of an epoch; a key marked \"anew\" is given by the command that \
         resumes a run. All others may change, and the new value is used. Processes: a key marked \"own\" may differ between the \
         processes of a job.\n",
    );
    section(&mut page, "All models and data sets", common_keys());
    for family in schema.families {
        let title = format!("Models of the family {}", family.name);
        section(&mut page, &title, family.keys.iter());
    }
    page
}

fn section(page: &mut String, title: &str, keys: impl Iterator<Item = &'static Key>) {
    let header = "| key | flag | values | default | about | resume | processes | meaning |\n\
                  |---|---|---|---|---|---|---|---|";
    // Writing to a String does not fail.
    let _ = writeln!(page, "\n## {title}\n\n{header}");
    for key in keys {
        let _ = writeln!(page, "{}", row(key));
    }
}

fn row(key: &Key) -> String {
    let about = match key.scope {
        Scope::Model => "model",
        Scope::Data => "data",
        Scope::Train => "training",
        Scope::Run => "run",
        Scope::Machine => "machine",
    };
    let resume = match key.on_resume {
        OnResume::MustMatch => "same",
        OnResume::MustMatchWithinEpoch => "same within an epoch",
        OnResume::MayChange | OnResume::MachinesOwn => "",
        OnResume::GivenAnew => "anew",
    };
    let flag = key.flag.map(|flag| format!("`--{}`", flag.name));
    let default = match key.default_text() {
        text if text.is_empty() || key.absent.is_some() => text,
        text => format!("`{text}`"),
    };
    let cells = [
        format!("`{}`{}", key.name, if key.is_ours { " *" } else { "" }),
        flag.unwrap_or_default(),
        key.type_text(),
        default,
        about.into(),
        resume.into(),
        if key.per_process { "own" } else { "" }.into(),
        key.help(),
    ];
    format!(
        "| {} |",
        cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
    )
}
