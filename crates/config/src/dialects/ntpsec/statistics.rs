//! `statsdir`, `statistics`, `filegen` and `logfile`: what is written beside keeping time.

use std::path::PathBuf;

use super::Reader;
use super::line::{Fault, Line, Parsed, Word, unknown};
use crate::{FileInterval, NtpdStatistic, StatisticsFile};

/// What `filegen` and `statistics` lines say of one kind; only those that are enabled count in the end.
#[derive(Clone)]
pub(super) struct Draft {
    statistic: NtpdStatistic,
    file: StatisticsFile,
    enabled: bool,
}

fn known() -> Vec<&'static str> {
    NtpdStatistic::ALL.iter().map(|(word, _)| *word).collect()
}

/// The kind that a word means.
fn statistic(word: &Word<'_>) -> Parsed<NtpdStatistic> {
    let found = NtpdStatistic::ALL.iter().find(|(name, _)| *name == word.text);
    found.map(|(_, statistic)| *statistic).ok_or_else(|| unknown(word, "kind of statistics", &known()))
}

fn draft<'r>(reader: &'r mut Reader<'_>, statistic: NtpdStatistic) -> &'r mut Draft {
    let drafts = &mut reader.statistics;
    let place = drafts.iter().position(|draft| draft.statistic == statistic).unwrap_or_else(|| {
        drafts.push(Draft { statistic, file: StatisticsFile::usual(statistic), enabled: false });
        drafts.len() - 1
    });
    &mut drafts[place]
}

/// `statistics NAME ...`.
pub(super) fn read(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let mut word = Some(line.require(&format!("one or more of {}", known().join(", ")))?);
    while let Some(given) = word {
        draft(reader, statistic(&given)?).enabled = true;
        word = line.next();
    }
    Ok(())
}

/// `filegen NAME [file F] [type T] [link|nolink] [enable|disable]`.
pub(super) fn read_file(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const ITEMS: &[&str] = &["disable", "enable", "file", "link", "nolink", "type"];
    let word = line.require("a kind of statistics")?;
    let statistic = statistic(&word)?;
    while let Some(word) = line.next() {
        let name =
            (word.text == "file").then(|| line.require("the beginning of a file's name")).transpose()?;
        let every = (word.text == "type").then(|| interval(line)).transpose()?;
        if !ITEMS.contains(&word.text) {
            return Err(unknown(&word, "item", ITEMS));
        }
        let draft = draft(reader, statistic);
        match word.text {
            "enable" => draft.enabled = true,
            "disable" => draft.enabled = false,
            "link" => draft.file.link = true,
            "nolink" => draft.file.link = false,
            _ => {}
        }
        if let Some(name) = name {
            file_name(&name)?.clone_into(&mut draft.file.name);
        }
        draft.file.every = every.unwrap_or(draft.file.every);
    }
    Ok(())
}

fn interval(line: &mut Line<'_>) -> Parsed<FileInterval> {
    let words: Vec<&str> = FileInterval::ALL.iter().map(|(word, _)| *word).collect();
    let word = line.require(&format!("one of {}", words.join(", ")))?;
    let found = FileInterval::ALL.iter().find(|(name, _)| *name == word.text);
    found.map(|(_, interval)| *interval).ok_or_else(|| unknown(&word, "type", &words))
}

/// ntpd refuses names that lead out of its directory, too.
fn file_name<'t>(word: &Word<'t>) -> Parsed<&'t str> {
    if word.text.split('/').any(|part| part == "..") {
        return Err(Fault::new(word, "statistics stay below `statsdir`"));
    }
    Ok(word.text)
}

/// `statsdir DIRECTORY`.
pub(super) fn read_directory(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    reader.model.ntpd.statistics_directory = Some(PathBuf::from(line.require("a directory")?.text));
    line.end()
}

/// `logfile FILE`.
pub(super) fn read_log_file(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    reader.model.ntpd.log_file = Some(PathBuf::from(line.require("a path")?.text));
    line.end()
}

/// What the lines ask for, after the last one.
pub(super) fn finish(reader: &mut Reader<'_>) {
    let drafts = std::mem::take(&mut reader.statistics);
    if !reader.writes_statistics {
        return;
    }
    let wanted = drafts.into_iter().filter(|draft| draft.enabled);
    reader.model.ntpd.statistics = wanted.map(|draft| (draft.statistic, draft.file)).collect();
}
