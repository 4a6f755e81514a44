//! Servers whose answers are authentic and well-formed, and whose clocks and headers say anything.

use super::world::{Asked, Changes, World, config, good_ke, nts_answer, plain_answer};
use crate::{AuthenticationPolicy, Command, Input, SourceConfig, SourceMode};
use chime_discipline::ClockCommand;
use chime_time::{NtpDuration, NtpShort, NtpTimestamp};
use chime_wire::{Header, LeapIndicator, Mode, ReferenceId};
use std::cell::Cell;
use std::rc::Rc;

/// A small generator that all servers of a world share.
#[derive(Clone)]
struct Chance(Rc<Cell<u64>>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    fn bits(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        state
    }

    fn below(&self, end: u64) -> u64 {
        self.bits() % end
    }

    /// Spans of all magnitudes, of either sign.
    fn span(&self) -> NtpDuration {
        NtpDuration::from_bits(self.bits().cast_signed() >> self.below(60))
    }

    fn stamp(&self, now: NtpTimestamp) -> NtpTimestamp {
        match self.below(7) {
            0 => NtpTimestamp::from_bits(self.bits()),
            1 => now + self.span(),
            2 => now + NtpDuration::from_seconds(1 << 31),
            3 => now - NtpDuration::from_seconds((1 << 31) - 1),
            4 => NtpTimestamp::from_bits(u64::MAX),
            5 => NtpTimestamp::from_bits(1),
            _ => now,
        }
    }

    fn word(&self) -> u32 {
        self.bits().to_be_bytes()[..4].iter().fold(0, |word, octet| word << 8 | u32::from(*octet))
    }

    fn octet(&self) -> u8 {
        self.bits().to_be_bytes()[0]
    }

    /// Changes one thing about an answer; `one_in`: of so many.
    fn lie(&self, header: &mut Header, one_in: u64) {
        if self.below(one_in) != 0 {
            return;
        }
        match self.below(9) {
            0 => header.receive = self.stamp(header.receive),
            1 => header.transmit = self.stamp(header.transmit),
            2 => {
                let by = self.stamp(header.receive) - header.receive;
                (header.receive, header.transmit) = (header.receive + by, header.transmit + by);
            }
            3 => header.root_delay = NtpShort::from_bits(self.word()),
            4 => header.root_dispersion = NtpShort::from_bits(self.word() >> self.below(32)),
            5 => header.precision = self.octet().cast_signed(),
            6 => header.stratum = self.octet() % 18,
            7 => header.poll = self.octet().cast_signed(),
            _ => {
                header.leap = [LeapIndicator::Insert, LeapIndicator::Delete, LeapIndicator::Unsynchronized]
                    [usize::from(self.octet() % 3)];
                header.reference_id = ReferenceId(self.word().to_be_bytes());
            }
        }
    }
}

fn world_of_liars(chance: &Chance) -> World {
    let what = chance.bits();
    let mut sources = vec![SourceConfig { interleaved: what & 8 == 0, ..SourceConfig::nts("nts.example") }];
    if what & 1 == 0 {
        sources.push(SourceConfig { interleaved: true, ..SourceConfig::server("192.0.2.2") });
    }
    if what & 2 == 0 {
        let mode = SourceMode::Symmetric { local_port: 123 };
        sources.push(SourceConfig { mode, interleaved: what & 4 == 0, ..SourceConfig::server("192.0.2.3") });
    }
    let mut config = config(sources);
    config.authentication =
        [AuthenticationPolicy::Mixed, AuthenticationPolicy::Ignored, AuthenticationPolicy::Required]
            [usize::from(chance.octet() % 3)];
    let error = [0.0, -1e9, 1e9, 2_147_483_648.0, -2_147_483_648.0, 4_294_967_296.0, -0.3];
    let mut world = World::with_config(config, error[usize::from(chance.octet() % 7)]);
    world.kernel_stamps = what & 16 == 0;
    world.name("nts.example", &["192.0.2.1"]);
    world.ke("nts.example", good_ke);
    let one_in = [2, 5, 20, 100][usize::from(chance.octet() % 4)];
    let lie = |chance: &Chance| {
        let chance = chance.clone();
        move |header: &mut Header| chance.lie(header, one_in)
    };
    let nts = lie(chance);
    world.server("192.0.2.1:123", move |asked: &Asked<'_>| {
        vec![nts_answer(asked, &Changes { header: Some(&nts), ..Changes::default() })]
    });
    let plain = lie(chance);
    world.server("192.0.2.2:123", move |asked: &Asked<'_>| vec![plain_answer(asked, |it| plain(it))]);
    let peer = lie(chance);
    world.server("192.0.2.3:123", move |asked: &Asked<'_>| {
        vec![plain_answer(asked, |header| {
            header.mode = Mode::SymmetricActive;
            peer(header);
        })]
    });
    world
}

fn check(world: &mut World, seed: u64) {
    let report = format!("{:?}", world.report());
    for none in ["NaN", ": inf", ": -inf"] {
        assert!(!report.contains(none), "{seed}: {report}");
    }
    for command in world.commands.drain(..) {
        if let ClockCommand::SetStatus { max_error, est_error, offset, .. } = command {
            assert!(max_error.is_finite() && est_error.is_finite() && offset.is_finite(), "{seed}");
        }
    }
}

/// The world itself sees to it that the engine does not wake for nothing.
#[test]
fn whatever_authentic_servers_say_nothing_spins_and_every_number_is_one() {
    // One in some dozens ends a wait for other sources while nobody may be judged yet.
    for seed in 1..=150 {
        let chance = Chance::new(seed);
        let mut world = world_of_liars(&chance);
        for _ in 0..40 {
            world.run_for(f64::from(u32::from(chance.octet())));
            match chance.below(12) {
                0 => world.input(Input::NetworkChanged),
                1 => world.input(Input::ClockStepped { by: chance.span() }),
                2 => world.command(Command::MakeStep),
                _ => {}
            }
            check(&mut world, seed);
        }
    }
}
