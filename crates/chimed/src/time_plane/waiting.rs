//! The wait for something to happen, and who is told of it.

use super::TimePlane;
use super::parts::InlineDesks;
use crate::chronyd::shell::ChronyShell;
use crate::exchanges::ExchangeSocket;
use crate::ke_server::KeToken;
use crate::ntpd::shell::NtpdShell;
use crate::serving::{InlineToken, InlineWorker};
use chime_engine::{Input, LookupId, ReferenceClockId, ResolveFailure};
use chime_sys::clock;
use chime_sys::clock_watch::ClockWatch;
use chime_sys::network::NetworkMonitor;
use chime_sys::poll::{Interest, Readiness, Wake};
use chime_sys::resolver::ResolveError;
use chime_time::MonoTime;
use std::io;
use std::net::IpAddr;
use tracing::info;

/// A descriptor of the loop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token {
    Exchange(ExchangeSocket),
    Establishment(usize),
    ReferenceClock(ReferenceClockId),
    RealTimeClock,
    Lookups,
    Commands,
    Configuration,
    Network,
    ClockSet,
    Ntp(InlineToken),
    Ke(KeToken),
    Desk(usize, usize),
}

impl TimePlane {
    /// Waits for something to happen and tells the engine what did.
    pub(super) fn wait(&mut self, deadlines: [Option<MonoTime>; 2]) -> io::Result<()> {
        self.set.clear();
        self.exchanges.register(&mut self.set, Token::Exchange);
        self.establishments.register(&mut self.set, Token::Establishment);
        self.reference_clocks.register(&mut self.set, Token::ReferenceClock);
        if let Some(clock) = self.chrony.as_ref().and_then(ChronyShell::real_time_clock_descriptor) {
            self.set.add(&clock, Interest::READ, Token::RealTimeClock);
        }
        if let Some(descriptor) = self.resolver.descriptor() {
            self.set.add(&descriptor, Interest::READ, Token::Lookups);
        }
        if let Some(network) = &self.network {
            self.set.add(network, Interest::READ, Token::Network);
        }
        if let Some(watch) = &self.watch {
            self.set.add(watch, Interest::READ, Token::ClockSet);
        }
        if !self.alone {
            self.set.add(&self.wake, Interest::READ, Token::Commands);
        }
        if let Some(descriptor) = self.rereading.descriptor() {
            self.set.add(descriptor, Interest::READ, Token::Configuration);
        }
        let inline_wake_at = self.register_inline();
        self.register_desks();
        let wake_at = [
            inline_wake_at,
            self.engine.poll_timeout(),
            self.establishments.poll_timeout(),
            self.broadcasts.poll_timeout(),
            self.cards.poll_timeout(),
            self.state.poll_timeout(),
            self.chrony.as_ref().and_then(ChronyShell::poll_timeout),
            self.ntpd.as_ref().and_then(NtpdShell::poll_timeout),
            self.leap_tables.poll_timeout(),
            Some(self.next_publish),
        ];
        let wake = self.set.wait(wake_at.into_iter().chain(deadlines).flatten().min())?;
        self.look_for_interference(wake);
        if wake == Wake::Ready {
            let ready: Vec<(Token, Readiness)> = self.set.ready().collect();
            let mut last_desk = None;
            for (token, readiness) in ready {
                // A desk may drop descriptors, so that later numbers of it mean others: one at a time.
                if let Token::Desk(desk, _) = token
                    && last_desk.replace(desk) == Some(desk)
                {
                    continue;
                }
                self.handle_ready(token, readiness);
            }
        }
        if self.alone {
            // Queued by the desks of this loop, and so without a wake.
            self.obey_queued();
        }
        if let Some(ke) = &mut self.inline.ke {
            // After everything that tells the time: handshakes take long.
            let of_ke = |(token, readiness)| {
                if let Token::Ke(token) = token { Some((token, readiness)) } else { None }
            };
            let ready: Vec<_> = self.set.ready().filter_map(of_ke).collect();
            ke.handle_turn(&ready, clock::mono_now());
            ke.handle_timeout(clock::mono_now());
        }
        self.establishments.handle_timeout(clock::mono_now());
        self.broadcasts.handle_timeout(clock::mono_now());
        self.cards.handle_timeout(clock::mono_now());
        while let Some(finished) = self.establishments.finished() {
            if let Some(ntpd) = &mut self.ntpd {
                ntpd.finished(&finished, clock::mono_now());
            }
            self.engine.handle_input(clock::mono_now(), finished);
        }
        Ok(())
    }

    /// Before anything that came in meanwhile is looked at: stamps must not be taken for those of the clock as it is now.
    pub(super) fn look_for_interference(&mut self, wake: Wake) {
        let is_told = |token: Token| matches!(token, Token::ClockSet);
        let told = wake == Wake::Ready
            && self.set.ready().any(|(token, _)| is_told(token))
            && self.watch.as_ref().is_some_and(ClockWatch::take_change);
        let (now, error) = clock::read_with_error();
        for input in self.clock.look_for_interference(now, error, told) {
            self.cards.forget();
            self.reference_clocks.forget();
            if matches!(input, Input::Suspended { .. }) {
                self.publisher.clock_stood_still();
                self.chrony.iter_mut().for_each(ChronyShell::slept);
            }
            if let (Some(chrony), Input::ClockStepped { by }) = (&self.chrony, &input)
                && !self.clock.is_ordered_leap_second(*by)
            {
                chrony.jumped(by.as_secs_f64());
            }
            self.engine.handle_input(clock::mono_now(), input);
        }
    }

    /// Adds the sockets of servers without threads; gives when they want to be looked at.
    fn register_inline(&mut self) -> Option<MonoTime> {
        if let Some(ntp) = &mut self.inline.ntp {
            if self.alone {
                // Told by this thread only, if at all, and so without a wake.
                ntp.obey();
            }
            ntp.register(&mut self.set, Token::Ntp, !self.alone);
        }
        let ke = self.inline.ke.as_ref()?;
        let now = clock::mono_now();
        ke.register(&mut self.set, Token::Ke, now);
        Some(ke.poll_timeout(now))
    }

    fn register_desks(&mut self) {
        for (desk, one) in self.desks.desks.iter().enumerate() {
            for (number, (descriptor, interest)) in one.descriptors().into_iter().enumerate() {
                self.set.add(&descriptor, interest, Token::Desk(desk, number));
            }
        }
    }

    fn handle_ready(&mut self, token: Token, readiness: Readiness) {
        match token {
            Token::Exchange(socket) => {
                self.cards.refresh(clock::mono_now());
                let engine = &mut self.engine;
                self.exchanges
                    .receive(socket, readiness, |fact| engine.handle_input(clock::mono_now(), fact));
            }
            Token::Establishment(connection) => {
                self.establishments.handle_ready(connection, readiness, clock::mono_now());
            }
            Token::ReferenceClock(clock) => {
                let readings = self.reference_clocks.receive(clock);
                if !readings.is_empty() {
                    self.write_words(clock);
                }
                self.tell_readings(clock, &readings, false);
            }
            Token::RealTimeClock => {
                let now = clock::read();
                if let Some(chrony) = &mut self.chrony
                    && chrony.tend_real_time_clock(&self.engine, (now, self.clock.commanded()), true)
                {
                    self.next_publish = MonoTime::ZERO;
                }
            }
            Token::Lookups => self.take_lookup(),
            Token::Commands => self.take_commands(),
            Token::Configuration => self.take_configuration(),
            Token::Ntp(token) => {
                self.cards.refresh(clock::mono_now());
                if let Some(ntp) = &mut self.inline.ntp {
                    ntp.handle_ready(token, readiness);
                }
            }
            Token::Desk(desk, number) => self.handle_desk(desk, number),
            // Looked at already, or afterwards.
            Token::ClockSet | Token::Ke(_) => {}
            Token::Network => {
                if self.network.as_ref().is_some_and(NetworkMonitor::take_changes) {
                    self.cards.network_changed();
                    self.engine.handle_input(clock::mono_now(), Input::NetworkChanged);
                }
            }
        }
    }

    fn handle_desk(&mut self, desk: usize, number: usize) {
        let InlineDesks { desks, view: Some(view) } = &mut self.desks else { return };
        if let Some(ntp) = &mut self.inline.ntp {
            // What was ordered by the request before is to be seen.
            ntp.obey();
        }
        let ntp = &self.inline.ntp;
        // A worker of this loop cannot be waited for.
        let clients = || ntp.as_ref().map(InlineWorker::clients).unwrap_or_default();
        let view = |with_clients: bool| view(with_clients.then(clients).as_deref());
        if let Some(desk) = desks.get_mut(desk) {
            desk.handle_ready(number, &view);
        }
    }

    fn take_lookup(&mut self) {
        let Some(answer) = self.resolver.take() else { return };
        for lookup in answer.lookups {
            let lookup = LookupId(lookup);
            let name = self.lookups.remove(&lookup).unwrap_or_default();
            self.lookup_ended(lookup, &name, answer.result.clone());
        }
    }

    pub(super) fn lookup_ended(
        &mut self,
        lookup: LookupId,
        name: &str,
        result: Result<Vec<IpAddr>, ResolveError>,
    ) {
        let result = match result {
            Ok(addresses) => {
                self.state.remember_addresses(name, &addresses);
                Ok(addresses)
            }
            // The name service may need the time that we are to get (DNSSEC, DNS over TLS): what the name meant last
            // time will do, since an NTS server proves its name anyway, and a plain one could lie at any address.
            Err(ResolveError::Temporary(reason)) => match self.state.addresses_of(name) {
                Some(known) => {
                    info!("looking up {name}: {reason}; using the addresses of last time");
                    Ok(known.to_vec())
                }
                None => Err(ResolveFailure::Temporary),
            },
            Err(ResolveError::NotFound) => Err(ResolveFailure::NotFound),
            Err(other) => Err(ResolveFailure::Other(other.to_string())),
        };
        self.engine.handle_input(clock::mono_now(), Input::Resolved { lookup, result });
    }
}
