//! What the control plane, signals and operators ask of the time plane, and how it obeys.

use super::parts::{KeptSources, ReadAgain};
use super::rereading::Added;
use super::{TimePlane, summary};
use crate::chronyd::shell::ChronyShell;
use crate::{logging, wiring};
use anyhow::Result;
use chime_config::{NtsTrust, Source};
use chime_discipline::ManualCorrection;
use chime_engine::{Authentication, Command, Input, SourceConfig, SourceMode};
use chime_sys::signals::Signal;
use chime_sys::{clock, signals};
use chime_time::{MonoTime, NtpDate};
use std::fmt;
use tracing::{error, info, warn};

/// What the control plane asks of the time plane.
#[derive(Debug)]
pub enum PlaneCommand {
    /// Something for the engine.
    Engine(Command),
    /// Read the configuration again, as SIGHUP does.
    Reload,
    /// Add a source, until the configuration is read again.
    AddSource(Box<Source>),
    /// The same, as the engine has it; with NTS it trusts the system's authorities.
    AddConfigured(Box<SourceConfig>),
    /// Read files with sources again, and keep what was added.
    ReloadSources,
    /// Set the clock by a time that was typed in.
    SetTime(TypedTime),
    /// Write what is known of the real-time clock.
    WriteRealTimeClock(Tell),
    /// Set the real-time clock, if it is off by enough.
    TrimRealTimeClock,
    /// Have the smoothing of the served time begin, or serve our time as it is from now on.
    Smooth {
        /// Which of the two.
        begin: bool,
    },
    /// Close log files and open them again.
    CycleLogs,
    /// Write everything that the next run wants to know.
    Save,
    /// Read the cookie keys again, as others may have written them.
    ReadCookieKeys,
    /// End, as SIGTERM does.
    Stop,
}

/// A time that was typed in.
pub struct TypedTime {
    /// The time.
    pub time: NtpDate,
    /// Hears what came of it.
    pub tell: Box<dyn FnOnce(Option<ManualCorrection>) + Send>,
}

impl fmt::Debug for TypedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedTime").field(&self.time).finish()
    }
}

/// Hears whether something could be done.
pub struct Tell(pub Box<dyn FnOnce(bool) + Send>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

/// Sources added while running that survive when files with sources are read again; the engine takes no more either.
pub(super) const ADDED_MAX: usize = 256;

impl TimePlane {
    /// Whether a signal asks to stop; others are carried out.
    pub(super) fn handle_signals(&mut self) -> bool {
        let hang_up = signals::take(Signal::HangUp);
        // chronyd has no signal to read its configuration again.
        if hang_up && self.chrony.as_ref().is_some_and(ChronyShell::speaks) {
            return true;
        }
        if hang_up {
            logging::reopen();
            self.reload(Added::Go);
        }
        if signals::take(Signal::User1) {
            info!("{}", summary(&self.report()));
        }
        self.stopping
            || [Signal::Terminate, Signal::Interrupt, Signal::Quit].map(signals::take).contains(&true)
    }

    pub(super) fn take_commands(&mut self) {
        // In this order: what comes after the wakes were taken brings its own. All of it, as nothing else would wake us
        // for the rest.
        self.wake.drain();
        self.obey_queued();
    }

    pub(super) fn obey_queued(&mut self) {
        for command in self.commands.try_iter().collect::<Vec<_>>() {
            self.obey(command);
            // What was changed is to be seen by whoever asks next, even where nothing follows from it.
            self.next_publish = MonoTime::ZERO;
        }
    }

    fn obey(&mut self, command: PlaneCommand) {
        match command {
            PlaneCommand::Engine(command) => {
                if let Command::RemoveSource(address) = &command {
                    self.added.retain(|config| config.name.parse() != Ok(*address));
                }
                let moves = matches!(command, Command::SlewByHand(_) | Command::ChangeFrequencyByHand(_));
                if moves && !self.engine.discipline().settings().steer {
                    warn!("the clock is only watched: it is not moved by hand either");
                }
                self.engine.handle_input(clock::mono_now(), Input::Control(command));
            }
            PlaneCommand::Reload => self.reload(Added::Go),
            PlaneCommand::AddSource(source) => {
                self.trust(source.authentication.nts_trust(), &source.name);
                self.add_source(wiring::source_config(&source, &self.trusts, self.exchanges.peer_port()));
            }
            PlaneCommand::AddConfigured(mut config) => {
                if let Authentication::Nts(nts) = &mut config.authentication {
                    let wish = NtsTrust::default();
                    self.trust(Some(&wish), &config.name);
                    nts.trust = self.trusts.number_of(&wish).unwrap_or(u32::MAX);
                }
                if let SourceMode::Symmetric { local_port } = &mut config.mode {
                    *local_port = self.exchanges.peer_port();
                }
                self.add_source(*config);
            }
            PlaneCommand::ReloadSources => self.reload_sources(),
            PlaneCommand::SetTime(TypedTime { time, tell }) => {
                let now = clock::read();
                let fast = (now.system - time).as_secs_f64();
                tell(self.engine.discipline_mut().enter_time(now.mono, fast));
            }
            PlaneCommand::WriteRealTimeClock(Tell(tell)) => {
                tell(self.chrony.as_ref().is_some_and(ChronyShell::write_real_time_clock));
            }
            PlaneCommand::TrimRealTimeClock => {
                if let Some(chrony) = &mut self.chrony {
                    chrony.trim_real_time_clock(&self.engine, clock::read(), self.clock.commanded());
                }
            }
            PlaneCommand::Smooth { begin } => {
                self.publisher.smooth(begin, &self.engine, clock::read());
                self.publisher.publish_time(&self.engine, self.clock.commanded(), clock::read());
            }
            PlaneCommand::CycleLogs => {
                // Without log files there is nothing to do.
                if let Some(chrony) = &mut self.chrony {
                    chrony.cycle_logs();
                }
            }
            PlaneCommand::Save => {
                self.state.save_all(&mut self.engine, clock::read());
                if let Some(chrony) = &self.chrony {
                    chrony.dump(&self.engine);
                }
            }
            PlaneCommand::ReadCookieKeys => self.state.reload_key_ring(clock::system_now()),
            PlaneCommand::Stop => self.stopping = true,
        }
    }

    /// Reads whom a source that is added trusts.
    fn trust(&mut self, wish: Option<&NtsTrust>, name: &str) {
        if let Some(wish) = wish
            && let Err(error) = self.trusts.add(wish)
        {
            // Without these certificates it trusts nobody, and says so at each attempt.
            error!("{name}: {error:#}");
        }
    }

    fn add_source(&mut self, config: SourceConfig) {
        if self.added.len() < ADDED_MAX {
            self.added.push(config.clone());
        }
        self.engine.handle_input(clock::mono_now(), Input::Control(Command::AddSource(Box::new(config))));
    }

    /// What is not of chrony's kind has no files with nothing but sources: all of it is read again, and what was added while
    /// running stays.
    fn reload_sources(&mut self) {
        if let Some(kept) = self.source_files.take() {
            self.source_files = Some(self.exchange_sources(kept));
            return;
        }
        self.reload(Added::Stay);
    }

    /// As chronyd: a source whose line is as it was keeps its state, or stays away if it was deleted meanwhile.
    fn exchange_sources(&mut self, kept: KeptSources) -> KeptSources {
        let KeptSources { files, sources: before } = kept;
        let Some(after) = files.read() else { return KeptSources { files, sources: before } };
        for source in &after {
            self.trust(source.authentication.nts_trust(), &source.name);
        }
        let config =
            |source: &Source| wiring::source_config(source, &self.trusts, self.exchanges.peer_port());
        let [old, new] = [&before, &after].map(|sources| sources.iter().map(config).collect::<Vec<_>>());
        let gone = old.iter().filter(|one| !new.contains(one)).cloned().collect();
        let command = Command::ExchangeSources { gone, fresh: surplus(&new, &old) };
        self.engine.handle_input(clock::mono_now(), Input::Control(command));
        KeptSources { files, sources: after }
    }

    /// Begins to read the configuration again; without other threads it is done at once.
    fn reload(&mut self, added: Added) {
        self.state.reload_key_ring(clock::system_now());
        if self.alone {
            let read = (self.reload.read)();
            return self.put_in_force(read, added);
        }
        if let Err(error) = self.rereading.begin(&self.reload.read, added) {
            self.put_in_force(Err(error.into()), added);
        }
    }

    /// The configuration was read.
    pub(super) fn take_configuration(&mut self) {
        let Some((read, added)) = self.rereading.take() else { return };
        self.put_in_force(read, added);
        if let Some(added) = self.rereading.take_next() {
            self.reload(added);
        }
        self.next_publish = MonoTime::ZERO;
    }

    fn put_in_force(&mut self, read: Result<ReadAgain>, added: Added) {
        let reloaded = match read.and_then(&mut self.reload.apply) {
            Ok(reloaded) => reloaded,
            Err(error) => {
                return error!("configuration not read again, the old one stays: {error:#}");
            }
        };
        self.trusts = reloaded.trusts;
        self.source_files = reloaded.source_files;
        self.publisher.set_smear(reloaded.leap_seconds.smear);
        self.leap_tables.set_wish(reloaded.leap_seconds);
        let command = Command::Reconfigure(Box::new(reloaded.engine));
        self.engine.handle_input(clock::mono_now(), Input::Control(command));
        if added == Added::Go {
            self.added.clear();
        }
        for config in self.added.clone() {
            let command = Command::AddSource(Box::new(config));
            self.engine.handle_input(clock::mono_now(), Input::Control(command));
        }
    }
}

/// What is in `these` more often than in `those`: a line that is there twice is a mistake to be told.
fn surplus<T: Clone + PartialEq>(these: &[T], those: &[T]) -> Vec<T> {
    let mut those: Vec<&T> = those.iter().collect();
    let is_more = |one: &&T| match those.iter().position(|other| other == one) {
        Some(place) => {
            those.remove(place);
            false
        }
        None => true,
    };
    these.iter().filter(is_more).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::rereading::Added;
    use super::super::{Reload, TimePlane};
    use super::surplus;
    use crate::once;
    use crate::serving::Shared;
    use crate::trust::Trusts;
    use chime_config::Model;
    use chime_engine::{Config, Engine, SourceConfig};
    use chime_sys::adjust::ObserveOnly;
    use chime_sys::{clock, poll};
    use std::sync::{Arc, mpsc};

    /// A plane that only watches, has no sources, and finds no configuration when it is to read it again.
    fn plane() -> TimePlane {
        let (model, now) = (Model::default(), clock::read());
        let shared = Arc::new(Shared::unsynchronized(-20));
        let trusts = Trusts::load(&model).expect("nobody is trusted");
        let parts =
            once::parts(&model, trusts, (Box::new(ObserveOnly), now), (&shared, false)).expect("descriptors");
        let (_, commands) = mpsc::channel();
        let (_, wake) = poll::waker().expect("a pipe");
        let engine = Engine::new(Config::default(), [7; 32], now);
        TimePlane::new(engine, parts, (commands, wake), Reload::never()).expect("descriptors")
    }

    #[test]
    fn a_reload_that_fails_neither_adds_nor_forgets_what_was_added_while_running() {
        for added in [Added::Stay, Added::Go] {
            let mut plane = plane();
            plane.add_source(SourceConfig { online: false, ..SourceConfig::server("192.0.2.1") });
            assert_eq!((plane.report().sources.len(), plane.added.len()), (1, 1));
            plane.reload(added);
            plane.reload(added);
            assert_eq!((plane.report().sources.len(), plane.added.len()), (1, 1), "{added:?}");
        }
    }

    #[test]
    fn a_surplus_is_counted() {
        assert_eq!(surplus(&[1, 2, 2, 3], &[2, 4]), [1, 2, 3]);
        assert_eq!(surplus(&[2], &[2, 2]), [0; 0]);
    }
}
