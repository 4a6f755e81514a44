//! `[ntpd]`: the log and the statistics files of NTPsec's ntpd, for whoever comes from there and keeps what reads them.

use super::table::TableReader;
use super::values::{boolean, path, text, word};
use crate::{FileInterval, NtpdFiles, NtpdStatistic, StatisticsFile};

pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>, files: &mut NtpdFiles) {
    files.log_file = table.read("log-file", path).or(files.log_file.take());
    table.set("log-system-events", boolean, &mut files.events.system);
    table.set("log-peer-events", boolean, &mut files.events.peers);
    let directory = table.read("statistics-directory", path);
    files.statistics_directory = directory.or(files.statistics_directory.take());
    table.each("statistics", "[[ntpd.statistics]]", |table| {
        let statistic = table.require("kind", word(&NtpdStatistic::ALL));
        let (name, link) = (table.read("file", text), table.read("link", boolean));
        let every = table.read("every", word(&FileInterval::ALL));
        let Some(statistic) = statistic else { return };
        let usual = StatisticsFile::usual(statistic);
        let file = StatisticsFile {
            name: name.unwrap_or(usual.name),
            every: every.unwrap_or(usual.every),
            link: link.unwrap_or(usual.link),
        };
        files.statistics.insert(statistic, file);
    });
}
