//! The command line: the flags of keys, and a few flags that are not keys.
//!
//! The flags of keys and their help texts are made from the table of keys. This room reads no file and knows no
//! default.

use crate::base::output;
use crate::config::{Given, Key, Kind, RunMode, common_keys};
use clap::builder::{
    PathBufValueParser, PossibleValuesParser, StringValueParser, TypedValueParser,
};
use clap::error::ErrorKind;
use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, value_parser,
};
use clap_complete::Shell;
use serde_json::{Value, json};
use std::path::PathBuf;
use tracing::Level;

const ABOUT: &str = "Train and evaluate models for visual question answering: Deep Modular Co-Attention Networks \
                     (MCAN) and others";
const BOOLEANS: &str = "A BOOL is True, False, true, false, 1 or 0; a flag without it means True. A flag may be shortened as \
                        long as it is unambiguous. If a flag is given twice, the last one counts.";

/// The parsed command line.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// The values for keys.
    given: Given,
    /// The level of the log messages.
    log: Option<Level>,
    /// Print this instead of running.
    print: Option<Print>,
}

/// A text about the command line that is printed instead of running.
#[derive(Clone, Copy, Debug)]
enum Print {
    Completions(Shell),
    Man,
}

/// The keys with a flag, in the order of the help text.
fn flag_keys() -> impl Iterator<Item = (&'static Key, &'static str)> {
    let all = || common_keys().filter_map(|key| Some((key, key.flag?.name)));
    const FIRST: [&str; 3] = ["RUN_MODE", "MODEL", "DATASET"];
    let first = FIRST
        .into_iter()
        .flat_map(move |name| all().filter(move |(key, _)| key.name == name));
    first.chain(all().filter(|(key, _)| !FIRST.contains(&key.name)))
}

/// The flag of a key.
fn key_arg((key, name): (&'static Key, &'static str)) -> Arg {
    let help = match key.default_text() {
        default if default.is_empty() => key.help(),
        default => format!("{} [default: {default}]", key.help()),
    };
    let value_name = key.flag.and_then(|flag| flag.value_name);
    let arg = Arg::new(key.name)
        .long(name)
        .help(help)
        .overrides_with(key.name)
        .value_name(value_name.unwrap_or(name));
    let switch = |arg: Arg, value_name: &'static str| {
        arg.num_args(0..=1)
            .default_missing_value("true")
            .value_name(value_name)
    };
    match key.kind {
        Kind::Bool => switch(arg, "BOOL").value_parser(|text: &str| boolean(text, &[])),
        Kind::BoolOr(words) => {
            switch(arg, "BOOL|gpu").value_parser(move |text: &str| boolean(text, words))
        }
        Kind::Count => arg.value_parser(value_parser!(u64).map(Value::from)),
        Kind::Words(words) => arg.value_parser(PossibleValuesParser::new(words).map(Value::from)),
        Kind::Path => arg.value_parser(PathBufValueParser::new().try_map(|path| {
            let text = path.to_str().map(Value::from);
            text.ok_or("a path must be UTF-8")
        })),
        Kind::Number | Kind::Text | Kind::Paths | Kind::Other(_) => {
            arg.value_parser(StringValueParser::new().map(Value::from))
        }
    }
}

/// The flags that are not keys.
fn other_args() -> [Arg; 5] {
    let shells = PossibleValuesParser::new(["bash", "zsh", "fish"]);
    let levels = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]);
    [
        Arg::new("CFG")
            .long("CFG")
            .value_name("FILE")
            .overrides_with("CFG")
            .value_parser(value_parser!(PathBuf))
            .help("Configuration file to use in place of the model's"),
        Arg::new("SET")
            .long("SET")
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .help("Set any configuration key; repeatable"),
        Arg::new("LOG")
            .long("LOG")
            .value_name("LEVEL")
            .overrides_with("LOG")
            .value_parser(levels.try_map(|level| level.parse::<Level>()))
            .help("Level of the log messages on standard error [default: warn]"),
        Arg::new("COMPLETIONS")
            .long("COMPLETIONS")
            .value_name("SHELL")
            .value_parser(shells.try_map(|shell| shell.parse::<Shell>()))
            .help("Print the completions for a shell, and do nothing else"),
        Arg::new("MAN")
            .long("MAN")
            .action(ArgAction::SetTrue)
            .help("Print the manual page, and do nothing else"),
    ]
}

/// The value of a boolean flag: a boolean or one of `words`. (The reference takes every text for true, also `False`.)
fn boolean(text: &str, words: &[&str]) -> Result<Value, String> {
    match text {
        "True" | "true" | "1" => Ok(json!(true)),
        "False" | "false" | "0" => Ok(json!(false)),
        word if words.contains(&word) => Ok(json!(word)),
        _ if words.is_empty() => Err("write True or False (or true, false, 1, 0)".into()),
        _ => Err(format!(
            "write True, False or {} (or true, false, 1, 0)",
            words.join(", ")
        )),
    }
}

impl CommandFactory for Args {
    fn command() -> Command {
        Command::new("mcan")
            .version(env!("CARGO_PKG_VERSION"))
            .about(ABOUT)
            .after_help(BOOLEANS)
            .infer_long_args(true)
            .args(flag_keys().map(key_arg))
            .args(other_args())
    }

    fn command_for_update() -> Command {
        Self::command()
    }
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flag = |(key, name): (&'static Key, &str)| {
            let value = matches.get_one::<Value>(key.name)?;
            Some((format!("--{name}"), key.name, value.clone()))
        };
        let shell = matches.get_one::<Shell>("COMPLETIONS").copied();
        let man = matches.get_flag("MAN").then_some(Print::Man);
        let set = matches.get_many::<String>("SET").into_iter().flatten();
        Ok(Args {
            given: Given {
                flags: flag_keys().filter_map(flag).collect(),
                cfg: matches.get_one::<PathBuf>("CFG").cloned(),
                set: set.cloned().collect(),
            },
            log: matches.get_one::<Level>("LOG").copied(),
            print: shell.map(Print::Completions).or(man),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Parser for Args {}

impl Args {
    /// Parses the command line. On wrong usage, prints the reason and ends the process with status 2. Help and version
    /// end it too: with status 1 if they cannot be printed.
    pub fn from_command_line() -> Args {
        let args = Args::try_parse().unwrap_or_else(|error| {
            let is_printed = error.print().is_ok();
            std::process::exit(if is_printed { error.exit_code() } else { 1 })
        });
        if let Err(reason) = args.check() {
            Args::command()
                .error(ErrorKind::MissingRequiredArgument, reason)
                .exit();
        }
        args
    }

    /// Checks that flags which need others have them.
    fn check(&self) -> Result<(), String> {
        let has = |key: &str| self.value(key).is_some();
        match self.run() {
            _ if self.print.is_some() => Ok(()),
            None => {
                let modes = RunMode::WORDS.join("|");
                Err(format!("--RUN=<{modes}> says what to do and is required"))
            }
            Some(RunMode::Score) if !has("RESULT_FILE") => {
                Err("--RUN=score needs --RESULT_FILE=<file>, the answers to score".into())
            }
            Some(run) => self.check_inputs(run),
        }
    }

    /// Checks that `run` reads every file that a flag names.
    fn check_inputs(&self, run: RunMode) -> Result<(), String> {
        use RunMode::{Score, Test, Train, Val};
        const USED_BY: [(&str, &[RunMode]); 7] = [
            ("RESULT_FILE", &[Score]),
            ("QUESTIONS", &[Score]),
            ("ANNOTATIONS", &[Score]),
            ("CKPT_PATH", &[Train, Val, Test]),
            ("CKPT_VERSION", &[Train, Val, Test]),
            ("CKPT_EPOCH", &[Train, Val, Test]),
            ("GLOVE_PATH", &[Train]),
        ];
        for (flag, key, _) in &self.given.flags {
            let used = USED_BY.iter().find(|(used, _)| used == key);
            if let Some((_, runs)) = used.filter(|(_, runs)| !runs.contains(&run)) {
                let runs: Vec<String> = runs
                    .iter()
                    .map(|run| format!("--RUN={}", run.word()))
                    .collect();
                return Err(format!(
                    "--RUN={} does not use {flag}, only {} does; leave it out",
                    run.word(),
                    runs.join(" or ")
                ));
            }
        }
        Ok(())
    }

    fn value(&self, key: &str) -> Option<&Value> {
        let found = self.given.flags.iter().find(|(_, name, _)| *name == key);
        found.map(|(_, _, value)| value)
    }

    fn run(&self) -> Option<RunMode> {
        serde_json::from_value(self.value("RUN_MODE")?.clone()).ok()
    }

    /// Prints the completions or the manual page to standard output if a flag asks for them; `false` if none does.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print(&self) -> anyhow::Result<bool> {
        let mut text = Vec::new();
        match self.print {
            None => return Ok(false),
            Some(Print::Completions(shell)) => {
                clap_complete::generate(shell, &mut Args::command(), "mcan", &mut text);
            }
            Some(Print::Man) => clap_mangen::Man::new(Args::command()).render(&mut text)?,
        }
        output::print_result(format_args!("{}", String::from_utf8_lossy(&text)));
        output::check_results()?;
        Ok(true)
    }

    /// The level of the log messages.
    pub fn log_level(&self) -> Level {
        self.log.unwrap_or(Level::WARN)
    }

    /// The values that the command line gives, for [`Config::resolve`](crate::config::Config::resolve).
    pub fn given(&self) -> Given {
        self.given.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    fn value(line: &str, key: &str) -> Value {
        args(line).unwrap().value(key).cloned().unwrap_or_default()
    }

    #[test]
    fn the_command_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn booleans_are_read_as_what_they_say() {
        assert_eq!(
            value("mcan --RUN train --RESUME False", "RESUME"),
            json!(false)
        );
        assert_eq!(value("mcan --RUN=train --RESUME=0", "RESUME"), json!(false));
        assert_eq!(value("mcan --RESUME --BS 8", "RESUME"), json!(true));
        assert_eq!(value("mcan --RESUME --BS 8", "BATCH_SIZE"), json!(8));
        assert_eq!(value("mcan --PRELOAD=gpu", "PRELOAD"), json!("gpu"));
        assert!(args("mcan --RUN=train --RESUME=no").is_err());
    }

    #[test]
    fn flags_may_be_shortened_as_in_the_reference() {
        assert_eq!(value("mcan --CKPT_P=a.pkl", "CKPT_PATH"), json!("a.pkl"));
    }

    #[test]
    fn of_a_flag_given_twice_the_last_one_counts() {
        assert_eq!(value("mcan --BS=8 --BS=16", "BATCH_SIZE"), json!(16));
        assert_eq!(value("mcan --VERB --VERB=False", "VERBOSE"), json!(false));
        let both = args("mcan --SET A=1 --SET B=2").unwrap();
        assert_eq!(both.given().set, ["A=1", "B=2"]);
    }

    #[test]
    fn every_flag_of_the_reference_is_accepted() {
        let all = "mcan --RUN=train --MODEL=large --SPLIT=train+val --EVAL_EE=True --SAVE_PRED=True --BS=64 --MAX_EPOCH=13 \
                   --PRELOAD=True --GPU=0 --SEED=1 --VERSION=v --RESUME=True --CKPT_V=small --CKPT_E=13 --CKPT_PATH=p \
                   --ACCU=2 --NW=8 --PINM=True --VERB=True --DATA_PATH=d --FEAT_PATH=f";
        assert_eq!(args(all).unwrap().given().flags.len(), 21);
    }

    #[test]
    fn flags_spelled_out_mean_the_same() {
        let given = args(
            "mcan --RUN train --MODEL=tiny --RESUM --CKPT_P=a.pkl --BS 8 --SET LR_BASE=1 --SET NW=2 --CFG=c.yml --VERB=0",
        )
        .unwrap()
        .given();
        let flags = given.spelled_out();
        assert!(flags.contains(&"--RESUME=true".into()), "{flags:?}");
        assert!(flags.contains(&"--CFG=c.yml".into()), "{flags:?}");
        let again = Args::try_parse_from(["mcan".into()].into_iter().chain(flags.clone())).unwrap();
        assert_eq!(again.given(), given);
    }

    #[test]
    fn a_missing_run_or_result_file_is_wrong_usage() {
        assert!(args("mcan").unwrap().check().is_err());
        assert!(args("mcan --RUN=score").unwrap().check().is_err());
        let complete = args("mcan --RUN=score --RESULT_FILE=a").unwrap();
        assert!(complete.check().is_ok());
        assert!(args("mcan --MAN").unwrap().check().is_ok());
        for line in [
            "--RUN=train --RESULT_FILE=a",
            "--RUN=score --RESULT_FILE=a --CKPT_V=b",
            "--RUN=pack --CKPT_E=1",
            "--RUN=val --GLOVE_PATH=a",
        ] {
            let reason = args(&format!("mcan {line}")).unwrap().check().unwrap_err();
            assert!(reason.contains("leave it out"), "{line}: {reason}");
        }
        assert!(
            args("mcan --RUN=val --CKPT_PATH=a")
                .unwrap()
                .check()
                .is_ok()
        );
    }
}
