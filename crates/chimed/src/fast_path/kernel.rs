//! The program's maps, and the interfaces that it is attached to.

use super::sockets;
use crate::serving::FrameDesk;
use chime_config::FastPath;
use chime_fast::{
    ACCESS_KEY_OCTETS, CLIENT_KEY_OCTETS, CLIENT_OCTETS, COUNTERS_OCTETS, Counters, Interface, ListenerRules,
    MapDescriptors, Place, QUEUES_MAX, SERVICE_KEY_OCTETS, SERVICE_OCTETS, SERVICES_MAX, SUBNETS_MAX,
    ServiceTable, TIME_SLOT_OCTETS, TIME_SLOTS, TimeSlot, access_key, build,
};
use chime_server::CLIENTS_MAX;
use chime_sys::bpf::{Map, MapKind, XdpLink, XdpMode, XdpProgram};
use chime_sys::frame_socket::FrameSocket;
use chime_sys::network;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// The name that tools of the kernel show.
const PROGRAM_NAME: &str = "truechimer_ntp";
/// Clients below which the kernel forgets some before there is need to.
const CLIENTS_MIN: usize = 4096;
/// What is at an address in the access list; that it is there is all that counts.
const LISTED: [u8; 4] = [1; 4];

/// What the kernel has of us.
#[derive(Debug)]
pub(super) struct Kernel {
    maps: Maps,
    attached: Vec<Attached>,
    /// The number of the state of the clock that was written last.
    current: AtomicU32,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Maps {
    services: Map,
    access: Map,
    current: Map,
    times: Map,
    counters: Map,
    clients: Map,
}

/// An interface with a program; its place in the list is its number there.
#[derive(Debug)]
struct Attached {
    name: String,
    mode: &'static str,
    /// Whether frames of requests with NTS are copied on their way to workers; `None`: they do not get any.
    copies: Option<bool>,
    /// Detaches the program when it is dropped.
    _link: XdpLink,
}

/// What the tables hold.
#[derive(Debug, Default)]
struct Written {
    services: ServiceTable,
    access: BTreeSet<[u8; ACCESS_KEY_OCTETS]>,
}

impl Kernel {
    /// Makes the maps; that of clients for about so many.
    ///
    /// # Errors
    /// In words: what is missing, and what to do.
    pub(super) fn new(clients_max: usize) -> Result<Self, String> {
        let maps = Maps::new(clients_max).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "the kernel does not permit programs: they take CAP_BPF and CAP_NET_ADMIN at the start (as root; under \
                 systemd also SystemCallFilter=bpf)"
                    .to_owned()
            }
            _ => format!("the kernel gives no memory for programs (bpf): {error}"),
        })?;
        let (current, written) = (AtomicU32::new(0), Mutex::default());
        Ok(Self { maps, attached: Vec::new(), current, written })
    }

    /// The program for an interface with our number `interface`, as the kernel has taken it; `sockets` are those of workers.
    ///
    /// # Errors
    /// In words: why it has not.
    pub(super) fn load(
        &self,
        interface: u16,
        (hardware_address, ports): ([u8; 6], &[u16]),
        sockets: Option<&Map>,
    ) -> Result<XdpProgram, String> {
        let place = Place { hardware_address, interface, ports: ports.to_vec() };
        let code = build(&place, &self.maps.descriptors(sockets)).map_err(|error| error.to_string())?;
        XdpProgram::load(PROGRAM_NAME, &code).map_err(|error| {
            format!("the kernel does not take the program (Linux 6.1 or newer is needed): {error}")
        })
    }

    /// Loads the program for an interface, attaches it there and opens at most `sockets_max` sockets for what it hands over.
    ///
    /// # Errors
    /// In words: why not. Without sockets for workers it does, and says why there are none.
    pub(super) fn attach(
        &mut self,
        name: &str,
        interface: &network::Interface,
        (wanted, ports): (FastPath, &[u16]),
        sockets_max: usize,
    ) -> Result<AtInterface, String> {
        let hardware_address = interface
            .hardware_address
            .filter(|address| *address != [0; 6])
            .ok_or_else(|| format!("{name} is no Ethernet"))?;
        let number = u16::try_from(self.attached.len()).map_err(|_| format!("{name} is one too many"))?;
        let map = Map::new("ntp_sockets", MapKind::Sockets, (4, 4), QUEUES_MAX);
        let program = self.load(number, (hardware_address, ports), map.as_ref().ok())?;
        let (link, mode) = link(&program, name, interface.index, wanted)?;
        let (sockets, problem) = match &map {
            Ok(map) => sockets::open(map, (name, interface.index), mode, sockets_max),
            Err(error) => (Vec::new(), Some(sockets::problem(name, error))),
        };
        let copies = (!sockets.is_empty()).then(|| !sockets.iter().all(FrameSocket::is_zero_copy));
        let desks = sockets.into_iter().map(|socket| FrameDesk::new(socket, number)).collect();
        let mode = mode_text(mode);
        self.attached.push(Attached { name: name.to_owned(), mode, copies, _link: link });
        Ok(AtInterface { mode, desks, problem })
    }

    pub(super) fn is_attached(&self) -> bool {
        !self.attached.is_empty()
    }

    /// Where programs work, and in which way.
    pub(super) fn interfaces(&self) -> BTreeMap<String, String> {
        self.attached.iter().map(|one| (one.name.clone(), one.mode.to_owned())).collect()
    }

    /// Where requests with NTS are handed over, and in which way.
    pub(super) fn nts_interfaces(&self) -> BTreeMap<String, String> {
        let way = |copies| if copies { "copy" } else { "zero-copy" };
        self.attached.iter().filter_map(|one| Some((one.name.clone(), way(one.copies?).to_owned()))).collect()
    }

    /// The interfaces with our numbers.
    pub(super) fn numbered(&self, interfaces: BTreeMap<String, network::Interface>) -> Vec<Interface> {
        let number = |name: &str| self.attached.iter().position(|one| one.name == name);
        let numbered = interfaces.into_iter().map(|(name, interface)| Interface {
            number: number(&name).and_then(|number| u16::try_from(number).ok()),
            name,
            addresses: interface.addresses,
            broadcasts: interface.broadcasts,
            vlan_on: interface.vlan_on,
        });
        numbered.collect()
    }

    /// Publishes a state of the clock: the next one in turn, and then that it is the one to be used. Not from two threads
    /// at a time.
    pub(super) fn publish(&self, slot: &TimeSlot) -> io::Result<()> {
        let next = (self.current.load(Ordering::Relaxed) + 1) % TIME_SLOTS;
        self.maps.times.insert(&next.to_ne_bytes(), slot.octets())?;
        self.maps.current.insert(&0u32.to_ne_bytes(), &u64::from(next).to_ne_bytes())?;
        self.current.store(next, Ordering::Relaxed);
        Ok(())
    }

    /// Changes the tables to what they should be. Nobody is answered meanwhile who is neither before nor after.
    pub(super) fn set_tables(&self, services: &ServiceTable, rules: &[ListenerRules]) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let access: BTreeSet<_> =
            (0u32..).zip(rules).flat_map(|(number, rules)| keys(number, rules)).collect();
        if access.len() > SUBNETS_MAX || services.len() > SERVICES_MAX {
            return Err(io::Error::other("there are too many addresses"));
        }
        // What is no longer served goes first: an access list that is new is none that is open.
        let same = |key: &[u8; SERVICE_KEY_OCTETS]| services.get(key) == written.services.get(key);
        let gone: Vec<_> = written.services.keys().filter(|key| !same(key)).copied().collect();
        for key in gone {
            self.maps.services.remove(&key)?;
            written.services.remove(&key);
        }
        for key in written.access.difference(&access).copied().collect::<Vec<_>>() {
            self.maps.access.remove(&key)?;
            written.access.remove(&key);
        }
        for key in access.difference(&written.access).copied().collect::<Vec<_>>() {
            self.maps.access.insert(&key, &LISTED)?;
            written.access.insert(key);
        }
        for (key, value) in services {
            if !written.services.contains_key(key) {
                self.maps.services.insert(key, value)?;
                written.services.insert(*key, *value);
            }
        }
        Ok(())
    }

    /// What programs have counted, on all processors.
    pub(super) fn counters(&self) -> io::Result<Counters> {
        let mut counters = Counters::default();
        for value in self.maps.counters.values(&0u32.to_ne_bytes())? {
            if let Ok(octets) = <[u8; COUNTERS_OCTETS]>::try_from(value) {
                counters.add(&octets);
            }
        }
        Ok(counters)
    }
}

/// What there is now at an interface.
pub(super) struct AtInterface {
    pub(super) mode: &'static str,
    /// Where workers take what is handed over, one for each receive queue.
    pub(super) desks: Vec<FrameDesk>,
    /// Why that is not so, or not for all queues.
    pub(super) problem: Option<String>,
}

const fn mode_text(mode: XdpMode) -> &'static str {
    match mode {
        XdpMode::Driver => "driver",
        XdpMode::Generic => "generic",
    }
}

/// Attaches a program to an interface, in the way that is wished for or else the best one.
fn link(
    program: &XdpProgram,
    name: &str,
    index: u32,
    wanted: FastPath,
) -> Result<(XdpLink, XdpMode), String> {
    let is_veth = wanted == FastPath::Xdp && network::driver_of(name).is_ok_and(|driver| driver == "veth");
    let ways: &[XdpMode] = match wanted {
        FastPath::XdpDriver => &[XdpMode::Driver],
        FastPath::XdpGeneric => &[XdpMode::Generic],
        // The driver drops what programs answer unless the other end is set up for it, which cannot be seen from here.
        _ if is_veth => &[XdpMode::Generic],
        _ => &[XdpMode::Driver, XdpMode::Generic],
    };
    let mut problem = format!("no program can be attached to {name}");
    for mode in ways {
        match XdpLink::attach(program, index, *mode) {
            Ok(link) => return Ok((link, *mode)),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(format!("another XDP program is at {name} already"));
            }
            Err(error) => {
                let text = mode_text(*mode);
                tracing::info!("fast path: not in {text} mode at {name}: {error}");
                problem = format!("no program can be attached to {name} ({text}): {error}");
            }
        }
    }
    Err(problem)
}

/// The ranges of addresses that a listener answers, where these are not all.
fn keys(number: u32, rules: &ListenerRules) -> impl Iterator<Item = [u8; ACCESS_KEY_OCTETS]> + '_ {
    let allowed = rules.served.iter().flat_map(|served| served.allowed.iter().flatten());
    allowed.map(move |range| access_key(number, range))
}

impl Maps {
    fn new(clients_max: usize) -> io::Result<Self> {
        let entries = |count: usize| u32::try_from(count).map_err(io::Error::other);
        let octets = (SERVICE_KEY_OCTETS, SERVICE_OCTETS);
        let services = Map::new("ntp_services", MapKind::Hash, octets, entries(SERVICES_MAX)?)?;
        let octets = (ACCESS_KEY_OCTETS, LISTED.len());
        Ok(Self {
            clients: Map::new(
                "ntp_clients",
                MapKind::RecentHash,
                (CLIENT_KEY_OCTETS, CLIENT_OCTETS),
                entries(clients_max.clamp(CLIENTS_MIN, CLIENTS_MAX))?,
            )?,
            services,
            access: Map::new("ntp_access", MapKind::LongestPrefix, octets, entries(SUBNETS_MAX)?)?,
            current: Map::new("ntp_current", MapKind::Array, (4, 8), 1)?,
            times: Map::new("ntp_times", MapKind::Array, (4, TIME_SLOT_OCTETS), TIME_SLOTS)?,
            counters: Map::new("ntp_counters", MapKind::PerProcessorArray, (4, COUNTERS_OCTETS), 1)?,
        })
    }

    fn descriptors(&self, sockets: Option<&Map>) -> MapDescriptors {
        MapDescriptors {
            services: self.services.descriptor(),
            access: self.access.descriptor(),
            current: self.current.descriptor(),
            times: self.times.descriptor(),
            counters: self.counters.descriptor(),
            clients: self.clients.descriptor(),
            sockets: sockets.map(Map::descriptor),
        }
    }
}
