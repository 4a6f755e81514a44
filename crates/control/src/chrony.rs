//! chrony's command protocol, version 6: an unmodified `chronyc` shows this daemon.
//!
//! [`respond`] is a pure function from a request and the [`Snapshot`] to a reply. A reply is never longer than its
//! request, so that the daemon cannot be used to amplify. Some structures grew over chrony's releases; the length to
//! which a client pads its request tells which one it knows.

mod commands;
mod encode;
mod open;
mod reports;

use chime_discipline::ManualCorrection;
use chime_engine::{Command, SourceConfig, SourceKind, SourceMatch, SourceReport};
use chime_server::AccessRule;
use chime_wire::chrony_command::{COMMAND_VERSION, CommandRequest, REPLY_HEADER_OCTETS, REQUEST_OCTETS_MAX};
use std::net::IpAddr;

use crate::{Handling, Snapshot};
pub use open::{OpenReport, OpenReports};

use encode::{Address, Payload, address_at, word_at};

/// Room that a request needs; what is longer gets no reply.
pub const REQUEST_ROOM: usize = REQUEST_OCTETS_MAX + 1;

/// What the way of a request permits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permission {
    /// These reports, and nothing that changes anything: over UDP.
    Reports(OpenReports),
    /// Everything: over the Unix socket, whose permissions say who gets so far.
    Everything,
}

impl Permission {
    fn covers(self, command: u16) -> bool {
        match self {
            Self::Reports(open) => open.opens(command),
            Self::Everything => true,
        }
    }
}

/// What to do about a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// No reply.
    Silence,
    /// This reply.
    Reply(Vec<u8>),
    /// Tell the engine, then reply.
    Command {
        /// What to tell it.
        command: Command,
        /// The reply when it has been told.
        reply: Vec<u8>,
    },
    /// This reply, then the counts of these clients begin again.
    ResetClients {
        /// The reply, with their counts as they were.
        reply: Vec<u8>,
        /// Their addresses.
        addresses: Vec<IpAddr>,
    },
    /// Do this, then reply with what came of it.
    Wish {
        /// What to do.
        wish: Wish,
        /// Makes the reply.
        replier: Replier,
    },
}

/// What the shell has to do, since it is not the engine's.
#[derive(Clone, PartialEq, Debug)]
pub enum Wish {
    /// Add this source. With NTS it trusts the system's authorities, whatever number of trust it has.
    AddSource(Box<SourceConfig>),
    /// Sources whose addresses can be reached go online, the others offline.
    OnOffline,
    /// Add a rule to an access list.
    Access {
        /// Which.
        table: Table,
        /// The rule; it comes after those that are there.
        rule: AccessRule,
    },
    /// Say whether an address is let in.
    CheckAccess {
        /// By which list.
        table: Table,
        /// The address.
        address: IpAddr,
    },
    /// Set the clock by a time that was typed in; the reply says what came of it, see [`Replier::time_was_set`].
    SetTime {
        /// The time; Unix seconds.
        unix_seconds: i64,
        /// Nanoseconds beside them.
        nanoseconds: u32,
    },
    /// Write what is known of the real-time clock to its file; the reply says whether that could be done.
    WriteRealTimeClock,
    /// Set the real-time clock, if it is off by enough.
    TrimRealTimeClock,
    /// Have the smoothing of the served time begin, or serve our time as it is from now on.
    Smooth {
        /// Which of the two.
        begin: bool,
    },
    /// Write to disk what the next run wants to know.
    Dump,
    /// Read the symmetric keys again.
    Rekey,
    /// Close log files and open them again.
    CycleLogs,
    /// Read the files with sources again.
    ReloadSources,
    /// Stop.
    Shutdown,
}

/// An access list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// Of the NTP server.
    Ntp,
    /// Of this protocol over UDP.
    Command,
}

/// What came of a [`Wish`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is done, or the time plane has been told.
    Done,
    /// It could not be done.
    Failed,
    /// The file of the real-time clock could not be written.
    NotWritten,
    /// The address is let in.
    AccessAllowed,
    /// It is not.
    AccessDenied,
}

/// Makes the reply to a request whose outcome is not known yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replier {
    command: u16,
    sequence: u32,
}

impl Replier {
    /// The reply that says so.
    #[must_use]
    pub fn reply(&self, outcome: Outcome) -> Vec<u8> {
        let status = match outcome {
            Outcome::Done => Status::Success,
            Outcome::Failed => Status::Failed,
            Outcome::NotWritten => Status::BadRtcFile,
            Outcome::AccessAllowed => Status::AccessAllowed,
            Outcome::AccessDenied => Status::AccessDenied,
        };
        reply(self.command, self.sequence, NULL, status, &[])
    }
}

impl Replier {
    /// The reply to [`Wish::SetTime`]; `None` when the time was not taken.
    #[must_use]
    pub fn time_was_set(&self, correction: Option<ManualCorrection>) -> Vec<u8> {
        let Some(correction) = correction else { return self.reply(Outcome::Failed) };
        let mut payload = Payload::default();
        payload
            .float(correction.fast)
            .float(correction.frequency_change * 1e6)
            .float(correction.frequency * 1e6);
        reply(self.command, self.sequence, MANUAL_TIMESTAMP, Status::Success, &payload.0)
    }
}

/// The reply code of `settime`.
const MANUAL_TIMESTAMP: u16 = 17;

/// Why a request has no success, as the number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Status {
    Success = 0,
    Failed = 1,
    Unauthorized = 2,
    Invalid = 3,
    NoSuchSource = 4,
    NotEnabled = 6,
    BadSubnet = 7,
    AccessAllowed = 8,
    AccessDenied = 9,
    AlreadyPresent = 11,
    NoRtc = 13,
    BadRtcFile = 14,
    Inactive = 15,
    BadSample = 16,
    InvalidFamily = 17,
    BadVersion = 18,
    BadLength = 19,
    InvalidName = 21,
}

/// What becomes of a request that may be carried out.
pub(crate) enum Answer {
    Status(Status),
    Report(u16, Payload),
    /// The same, and the counts of these clients begin again.
    Resetting {
        kind: u16,
        payload: Payload,
        addresses: Vec<IpAddr>,
    },
    Command(Command),
    Wish(Wish),
}

/// The numbers of commands.
mod code {
    pub(super) const ONLINE: u16 = 1;
    pub(super) const OFFLINE: u16 = 2;
    pub(super) const BURST: u16 = 3;
    pub(super) const MODIFY_MINPOLL: u16 = 4;
    pub(super) const MODIFY_MAXPOLL: u16 = 5;
    pub(super) const DUMP: u16 = 6;
    pub(super) const MODIFY_MAXDELAY: u16 = 7;
    pub(super) const MODIFY_MAXDELAYRATIO: u16 = 8;
    pub(super) const MODIFY_MAXUPDATESKEW: u16 = 9;
    pub(super) const SETTIME: u16 = 11;
    pub(super) const MANUAL: u16 = 13;
    pub(super) const N_SOURCES: u16 = 14;
    pub(super) const SOURCE_DATA: u16 = 15;
    pub(super) const REKEY: u16 = 16;
    pub(super) const ALLOW: u16 = 17;
    pub(super) const CMDDENYALL: u16 = 24;
    pub(super) const ACCHECK: u16 = 25;
    pub(super) const CMDACCHECK: u16 = 26;
    pub(super) const DEL_SOURCE: u16 = 29;
    pub(super) const WRITERTC: u16 = 30;
    pub(super) const DFREQ: u16 = 31;
    pub(super) const TRACKING: u16 = 33;
    pub(super) const SOURCESTATS: u16 = 34;
    pub(super) const RTCREPORT: u16 = 35;
    pub(super) const TRIMRTC: u16 = 36;
    pub(super) const CYCLELOGS: u16 = 37;
    pub(super) const MANUAL_LIST: u16 = 41;
    pub(super) const MANUAL_DELETE: u16 = 42;
    pub(super) const MAKESTEP: u16 = 43;
    pub(super) const ACTIVITY: u16 = 44;
    pub(super) const MODIFY_MINSTRATUM: u16 = 45;
    pub(super) const MODIFY_POLLTARGET: u16 = 46;
    pub(super) const MODIFY_MAXDELAYDEVRATIO: u16 = 47;
    pub(super) const RESELECT: u16 = 48;
    pub(super) const RESELECTDISTANCE: u16 = 49;
    pub(super) const MODIFY_MAKESTEP: u16 = 50;
    pub(super) const SMOOTHING: u16 = 51;
    pub(super) const SMOOTHTIME: u16 = 52;
    pub(super) const REFRESH: u16 = 53;
    pub(super) const SERVER_STATS: u16 = 54;
    pub(super) const LOCAL2: u16 = 56;
    pub(super) const NTP_DATA: u16 = 57;
    pub(super) const SHUTDOWN: u16 = 62;
    pub(super) const ONOFFLINE: u16 = 63;
    pub(super) const ADD_SOURCE: u16 = 64;
    pub(super) const NTP_SOURCE_NAME: u16 = 65;
    pub(super) const RESET_SOURCES: u16 = 66;
    pub(super) const AUTH_DATA: u16 = 67;
    pub(super) const CLIENT_ACCESSES: u16 = 68;
    pub(super) const SELECT_DATA: u16 = 69;
    pub(super) const RELOAD_SOURCES: u16 = 70;
    pub(super) const DOFFSET2: u16 = 71;
    pub(super) const MODIFY_SELECTOPTS: u16 = 72;
    pub(super) const MODIFY_OFFSET: u16 = 73;
    pub(super) const LOCAL3: u16 = 74;
}

/// The reply to a datagram that came on a way with this permission.
#[must_use]
pub fn respond(request: &[u8], snapshot: &Snapshot, permission: Permission) -> Verdict {
    let Ok(asked) = CommandRequest::decode(request) else { return Verdict::Silence };
    let answer = match refusal(&asked, request.len(), permission) {
        Some(status) => Answer::Status(status),
        None => execute(&asked, request.len(), snapshot),
    };
    let reply = |kind, status, payload: &[u8]| reply(asked.command, asked.sequence, kind, status, payload);
    match answer {
        Answer::Status(status) => Verdict::Reply(reply(NULL, status, &[])),
        Answer::Command(command) => Verdict::Command { command, reply: reply(NULL, Status::Success, &[]) },
        Answer::Wish(wish) => {
            Verdict::Wish { wish, replier: Replier { command: asked.command, sequence: asked.sequence } }
        }
        Answer::Resetting { kind, payload, addresses } => {
            let reply = reply(kind, Status::Success, &payload.0);
            Verdict::ResetClients { reply, addresses }
        }
        Answer::Report(kind, payload) => {
            let reply = reply(kind, Status::Success, &payload.0);
            // The lengths in `length_wanted` see to it; this is for the day when one of them is wrong.
            if reply.len() <= request.len() { Verdict::Reply(reply) } else { Verdict::Silence }
        }
    }
}

/// Whether a reply to this needs the clients of the server in the snapshot, which are dear to collect.
#[must_use]
pub fn asks_for_clients(request: &[u8], permission: Permission) -> bool {
    permission.covers(code::CLIENT_ACCESSES)
        && CommandRequest::decode(request).is_ok_and(|asked| asked.command == code::CLIENT_ACCESSES)
}

/// Whether this may be a request that takes the time plane to answer: to set the clock by a time that was typed in, or to
/// write the file of the real-time clock.
#[must_use]
pub fn is_answered_later(request: &[u8]) -> bool {
    CommandRequest::decode(request)
        .is_ok_and(|asked| [code::SETTIME, code::WRITERTC].contains(&asked.command))
}

/// Whether chronyd would count this as a command packet.
#[must_use]
pub fn is_request(datagram: &[u8]) -> bool {
    CommandRequest::decode(datagram).is_ok()
}

/// What became of a datagram that got this reply.
#[must_use]
pub fn handling(datagram: &[u8], reply: Option<&[u8]>) -> Handling {
    const ANSWERS: [Status; 3] = [Status::Success, Status::AccessAllowed, Status::AccessDenied];
    match reply {
        None if is_request(datagram) => Handling::Lost,
        None => Handling::Malformed,
        Some(reply) => {
            let status = reply.get(8..10).unwrap_or_default();
            let is_answer = ANSWERS.iter().any(|known| status == (*known as u16).to_be_bytes());
            if is_answer { Handling::Answered } else { Handling::Refused }
        }
    }
}

/// The reply code of a reply without payload.
const NULL: u16 = 1;

fn reply(command: u16, sequence: u32, kind: u16, status: Status, payload: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(REPLY_HEADER_OCTETS + payload.len());
    octets.extend([COMMAND_VERSION, 2, 0, 0]);
    for word in [command, kind, status as u16, 0, 0, 0] {
        octets.extend(word.to_be_bytes());
    }
    octets.extend(sequence.to_be_bytes());
    octets.extend([0; 8]);
    octets.extend(payload);
    octets
}

/// What stands against a request before it is looked into, in chronyd's order.
fn refusal(asked: &CommandRequest<'_>, octets: usize, permission: Permission) -> Option<Status> {
    if asked.version != COMMAND_VERSION {
        return Some(Status::BadVersion);
    }
    let Some(wanted) = length_wanted(asked.command) else { return Some(Status::Invalid) };
    if octets < wanted {
        return Some(Status::BadLength);
    }
    (!permission.covers(asked.command)).then_some(Status::Unauthorized)
}

/// Octets of the shortest request of a command: what it says, and room for its reply; `None` when there is no such
/// command (any more). For those with several replies it is the shortest of these.
const fn length_wanted(command: u16) -> Option<usize> {
    Some(match command {
        1 | 2 => 60,
        3 => 68,
        4 | 5 | 7 | 8 | 17..=24 | 45..=47 => 44,
        6 | 9 | 13 | 16 | 30 | 31 | 36 | 37 | 42 | 43 | 48..=50 | 52 | 53 | 62 | 63 | 66 | 70 | 71 => 28,
        11 | 25 | 26 | 29 => 40,
        14 => 32,
        15 | 69 => 76,
        33 => 104,
        34 => 84,
        35 => 56,
        // `local` of chrony before 4.6.
        56 => 36,
        41 => 416,
        44 | 54 | 73 | 74 => 48,
        51 | 67 | 72 => 52,
        57 => 152,
        64 => 372,
        65 => 284,
        68 => 520,
        _ => return None,
    })
}

fn execute(asked: &CommandRequest<'_>, octets: usize, snapshot: &Snapshot) -> Answer {
    let sources = &snapshot.engine.sources;
    let by_index = || sources.get(usize::try_from(word_at(asked.payload, 0)).ok()?);
    let by_address = || find(sources, address_at(asked.payload, 0));
    let of = |source: Option<&SourceReport>, report: fn(&SourceReport) -> Answer| {
        source.map_or(Answer::Status(Status::NoSuchSource), report)
    };
    match asked.command {
        code::N_SOURCES => reports::source_count(snapshot),
        code::SOURCE_DATA => of(by_index(), reports::source_data),
        code::TRACKING => reports::tracking(&snapshot.engine.tracking),
        code::SOURCESTATS => of(by_index(), reports::source_statistics),
        code::ACTIVITY => reports::activity(&snapshot.engine.activity),
        code::SERVER_STATS => reports::server_statistics(snapshot, octets),
        code::NTP_DATA => by_address()
            .map_or(Answer::Status(Status::NoSuchSource), |source| reports::ntp_data(source, octets)),
        code::NTP_SOURCE_NAME => of(by_address(), reports::source_name),
        code::AUTH_DATA => of(by_address(), reports::authentication_data),
        code::SELECT_DATA => of(by_index(), reports::selection_data),
        code::CLIENT_ACCESSES
            if snapshot.server.clients_max == 0 && !snapshot.server.listening.is_empty() =>
        {
            Answer::Status(Status::Inactive)
        }
        code::CLIENT_ACCESSES => reports::clients(&snapshot.clients, asked.payload),
        code::MANUAL_LIST => reports::manual_list(&snapshot.engine.manual),
        code::MANUAL_DELETE | code::MANUAL => commands::manual(asked.command, asked.payload, snapshot),
        code::SETTIME if snapshot.engine.manual.enabled => commands::set_time(asked.payload),
        code::RTCREPORT | code::WRITERTC | code::TRIMRTC => reports::real_time_clock(asked.command, snapshot),
        code::SMOOTHING => reports::smoothing(snapshot),
        code::SMOOTHTIME => commands::smooth(asked.payload, snapshot),
        code::SETTIME => Answer::Status(Status::NotEnabled),
        command => commands::execute(command, asked.payload, snapshot),
    }
}

/// The source that a client means by an address or an `ID#`.
fn find(sources: &[SourceReport], address: Address) -> Option<&SourceReport> {
    sources.iter().find(|source| match address {
        Address::Ip(address) => ip_of(source) == Some(address),
        Address::Id(id) => {
            source.remote.is_none()
                && source.kind != SourceKind::ReferenceClock
                && source.place_number() == id
        }
        Address::Unspecified => false,
    })
}

/// The address of a source; of one that is offline and was never asked, the one that it was configured with.
fn ip_of(source: &SourceReport) -> Option<IpAddr> {
    // Four letters can look like an address.
    if source.kind == SourceKind::ReferenceClock {
        return None;
    }
    let remote = source.remote.map(|remote| remote.ip());
    remote.or_else(|| source.name.parse().ok()).map(|address| address.to_canonical())
}

/// The sources that a mask and an address mean; `None` when there are none.
fn matching(payload: &[u8], sources: &[SourceReport]) -> Option<SourceMatch> {
    let address = match address_at(payload, 20) {
        Address::Unspecified => return Some(SourceMatch::All),
        id @ Address::Id(_) => return find(sources, id).map(|source| SourceMatch::Key(source.source_key())),
        Address::Ip(address) => address,
    };
    let mask = match address_at(payload, 0) {
        Address::Ip(mask) if mask.is_ipv4() == address.is_ipv4() => mask,
        _ => commands::exact(address),
    };
    if mask == commands::exact(address)
        && let Some(source) = find(sources, Address::Ip(address)).filter(|source| source.remote.is_none())
    {
        return Some(SourceMatch::Key(source.source_key()));
    }
    let wanted = masked(address, mask);
    let is_meant = |source: &SourceReport| {
        ip_of(source).is_some_and(|ip| ip.is_ipv4() == address.is_ipv4() && masked(ip, mask) == wanted)
    };
    sources.iter().any(is_meant).then_some(SourceMatch::Address { address, mask })
}

fn masked(address: IpAddr, mask: IpAddr) -> u128 {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    bits(address) & bits(mask)
}
