//! Name resolution on helper threads, so that a slow name server never holds up the clock.
//!
//! Answers come over a pipe that is in the poll set only while a lookup is out ([`Resolver::descriptor`]). The
//! helpers read no clock, do not sleep and touch no other socket of ours.

use crate::descriptor::{check_octets, pipe};
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread;

/// Lookups under way at once; the others wait for their turn.
pub const LOOKUPS_RUNNING_MAX: usize = 8;

/// Names that wait for their turn at most: more than any configuration has. Where the name service hangs, nothing more is
/// taken on.
pub const NAMES_WAITING_MAX: usize = 1024;

/// Who may wait for one name: several sources, and those that asked again as it took so long.
pub const ASKERS_MAX: usize = 16;

/// Addresses taken from one answer; a name that has more of them is not a name server's usual answer.
pub const ADDRESSES_MAX: usize = 64;

/// The families to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Family {
    /// IPv4 and IPv6, in the order that the system prefers (RFC 6724).
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// Why a name gave no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name, or an address of the family asked for, does not exist.
    #[error("no such name, or no address of the wanted family")]
    NotFound,
    /// The name service does not answer now.
    #[error("the name service does not answer: {0}")]
    Temporary(String),
    /// Anything else, in the system's words.
    #[error("{0}")]
    Failed(String),
}

/// The answer to all who asked for one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The numbers that the caller gave the lookups.
    pub lookups: Vec<u64>,
    /// Addresses, at least one, each once.
    pub result: Result<Vec<IpAddr>, ResolveError>,
}

/// Looks up names without blocking.
#[derive(Debug)]
pub struct Resolver {
    receiver: OwnedFd,
    sender: Arc<OwnedFd>,
    answers: mpsc::Receiver<Found>,
    answer_sender: mpsc::Sender<Found>,
    waiting: VecDeque<Lookup>,
    running: Vec<Lookup>,
}

/// One name, which is looked up once for all who ask meanwhile.
#[derive(Debug)]
struct Lookup {
    name: String,
    family: Family,
    /// At least one.
    askers: Vec<u64>,
}

/// What a helper found.
#[derive(Debug)]
struct Found {
    /// Who asked first.
    first: u64,
    result: Result<Vec<IpAddr>, ResolveError>,
}

impl Resolver {
    /// Opens the pipe; threads are started only when there is something to look up.
    pub fn new() -> io::Result<Self> {
        let (receiver, sender) = pipe()?;
        let (answer_sender, answers) = mpsc::channel();
        Ok(Self {
            receiver,
            sender: Arc::new(sender),
            answers,
            answer_sender,
            waiting: VecDeque::new(),
            running: Vec::new(),
        })
    }

    /// Starts to look up `name`: a host name, or an address literal. One that is being looked up already is so once, however
    /// often it is asked for.
    ///
    /// # Errors
    /// When too many lookups are out; then there is no answer to this one.
    pub fn submit(&mut self, lookup: u64, name: &str, family: Family) -> Result<(), ResolveError> {
        let is_same = |other: &&mut Lookup| other.name == name && other.family == family;
        if let Some(same) = self.running.iter_mut().chain(&mut self.waiting).find(is_same) {
            if same.askers.len() >= ASKERS_MAX {
                return Err(ResolveError::Temporary("it hangs".to_owned()));
            }
            same.askers.push(lookup);
            return Ok(());
        }
        if self.waiting.len() >= NAMES_WAITING_MAX {
            return Err(ResolveError::Temporary("too many other names wait for it".to_owned()));
        }
        self.waiting.push_back(Lookup { name: name.to_owned(), family, askers: vec![lookup] });
        self.start_some();
        Ok(())
    }

    /// What to wait for, for reading, as long as a lookup is out.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (!self.running.is_empty()).then(|| self.receiver.as_fd())
    }

    /// Takes one answer, waiting for it if need be; `None` when no lookup is out.
    pub fn take(&mut self) -> Option<Answer> {
        if self.running.is_empty() {
            return None;
        }
        let mut octet = [0u8; 1];
        loop {
            // SAFETY: the pointer is to one octet.
            let read = unsafe { libc::read(self.receiver.as_raw_fd(), octet.as_mut_ptr().cast(), 1) };
            match check_octets(read) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        // The answer was put into the channel before the octet into the pipe.
        let Found { first, result } = self.answers.recv().ok()?;
        let ended = self.running.iter().position(|lookup| lookup.askers[0] == first)?;
        let lookups = self.running.swap_remove(ended).askers;
        self.start_some();
        Some(Answer { lookups, result })
    }

    fn start_some(&mut self) {
        while self.running.len() < LOOKUPS_RUNNING_MAX {
            let Some(lookup) = self.waiting.pop_front() else { return };
            let (first, name, family) = (lookup.askers[0], lookup.name.clone(), lookup.family);
            self.running.push(lookup);
            let (answers, sender) = (self.answer_sender.clone(), Arc::clone(&self.sender));
            let spawned = thread::Builder::new().name("resolver".to_owned()).spawn({
                let (answers, sender) = (answers.clone(), Arc::clone(&sender));
                move || {
                    // Without this the signals of the daemon could come to rest here.
                    let _unblocked = crate::signals::block_in_this_thread();
                    deliver(&answers, &sender, Found { first, result: look_up(&name, family) });
                }
            });
            if let Err(error) = spawned {
                let result = Err(ResolveError::Temporary(format!("no thread for it: {error}")));
                deliver(&answers, &sender, Found { first, result });
            }
        }
    }
}

fn deliver(answers: &mpsc::Sender<Found>, sender: &OwnedFd, found: Found) {
    // Both ends belong to the resolver; when it is gone nobody waits for the answer.
    if answers.send(found).is_ok() {
        // SAFETY: the pointer is to one octet.
        let _gone = unsafe { libc::write(sender.as_raw_fd(), [1u8].as_ptr().cast(), 1) };
    }
}

/// Looks `name` up, taking as long as the system's resolver takes.
pub fn look_up(name: &str, family: Family) -> Result<Vec<IpAddr>, ResolveError> {
    if let Ok(literal) = name.parse::<IpAddr>() {
        let wanted = match family {
            Family::Any => true,
            Family::V4 => literal.is_ipv4(),
            Family::V6 => literal.is_ipv6(),
        };
        return if wanted { Ok(vec![literal]) } else { Err(ResolveError::NotFound) };
    }
    let name = CString::new(name).map_err(|_| ResolveError::NotFound)?;
    let mut list: *mut libc::addrinfo = std::ptr::null_mut();
    let hints = hints(family);
    // SAFETY: the name ends in a zero octet; the hints and the place for the list are alive during the call.
    let code = unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), &raw const hints, &raw mut list) };
    if code != 0 {
        return Err(error_of(code));
    }
    let mut addresses = Vec::new();
    let mut next = list;
    while !next.is_null() && addresses.len() < ADDRESSES_MAX {
        // SAFETY: the list is the resolver's, well formed and not freed before the loop ends.
        let entry = unsafe { &*next };
        // SAFETY: as above: the address has the length that the entry says.
        if let Some(address) = unsafe { address_of(entry) }
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
        next = entry.ai_next;
    }
    // SAFETY: the list came from getaddrinfo and is freed once; nothing borrowed from it is left.
    unsafe { libc::freeaddrinfo(list) };
    if addresses.is_empty() { Err(ResolveError::NotFound) } else { Ok(addresses) }
}

fn hints(family: Family) -> libc::addrinfo {
    libc::addrinfo {
        ai_flags: 0,
        ai_family: match family {
            Family::Any => libc::AF_UNSPEC,
            Family::V4 => libc::AF_INET,
            Family::V6 => libc::AF_INET6,
        },
        // One type of socket, or every address would come three times.
        ai_socktype: libc::SOCK_DGRAM,
        ai_protocol: 0,
        ai_addrlen: 0,
        ai_addr: std::ptr::null_mut(),
        ai_canonname: std::ptr::null_mut(),
        ai_next: std::ptr::null_mut(),
    }
}

/// The address of a list entry.
///
/// # Safety
/// `ai_addr` must point to a socket address of `ai_addrlen` octets, or be null.
unsafe fn address_of(entry: &libc::addrinfo) -> Option<IpAddr> {
    let octets = entry.ai_addrlen as usize;
    match entry.ai_family {
        libc::AF_INET if !entry.ai_addr.is_null() && octets >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the caller's promise, and the length was checked.
            let address = unsafe { entry.ai_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::V4(Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes())))
        }
        libc::AF_INET6 if !entry.ai_addr.is_null() && octets >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: the caller's promise, and the length was checked.
            let address = unsafe { entry.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::V6(Ipv6Addr::from(address.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}

fn error_of(code: libc::c_int) -> ResolveError {
    match code {
        libc::EAI_NONAME | libc::EAI_NODATA => return ResolveError::NotFound,
        libc::EAI_SYSTEM => return ResolveError::Failed(io::Error::last_os_error().to_string()),
        _ => {}
    }
    // SAFETY: gai_strerror returns a text that lives for ever and ends in a zero octet.
    let text = unsafe { CStr::from_ptr(libc::gai_strerror(code)) }.to_string_lossy().into_owned();
    if code == libc::EAI_AGAIN { ResolveError::Temporary(text) } else { ResolveError::Failed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Interest, PollSet, Wake};

    #[test]
    fn literals_are_addresses_of_their_family() {
        assert_eq!(look_up("192.0.2.1", Family::Any).unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(look_up("2001:db8::1", Family::V4), Err(ResolveError::NotFound));
        assert_eq!(look_up("a\0b", Family::Any), Err(ResolveError::NotFound));
    }

    #[test]
    fn answers_come_over_the_pipe_and_more_lookups_than_threads_all_end() {
        let mut resolver = Resolver::new().unwrap();
        assert!(resolver.descriptor().is_none() && resolver.take().is_none());
        let lookups = LOOKUPS_RUNNING_MAX as u64 * 3;
        for lookup in 0..lookups {
            let name = format!("127.0.0.{}", lookup + 1);
            resolver.submit(lookup, &name, Family::V4).unwrap();
        }
        let mut answered = Vec::new();
        let mut set = PollSet::new();
        while let Some(descriptor) = resolver.descriptor() {
            set.clear();
            set.add(&descriptor, Interest::READ, ());
            while set.wait(None).unwrap() == Wake::Interrupted {}
            let answer = resolver.take().unwrap();
            let [lookup] = answer.lookups[..] else { panic!("{answer:?}") };
            let octet = u8::try_from(lookup + 1).unwrap();
            assert_eq!(answer.result.unwrap(), [IpAddr::V4(Ipv4Addr::new(127, 0, 0, octet))]);
            answered.push(lookup);
        }
        answered.sort_unstable();
        assert_eq!(answered, (0..lookups).collect::<Vec<_>>());
    }

    #[test]
    fn one_name_is_looked_up_once_for_all_who_ask_meanwhile() {
        let mut resolver = Resolver::new().unwrap();
        for lookup in 0..ASKERS_MAX as u64 {
            resolver.submit(lookup, "192.0.2.1", Family::Any).unwrap();
        }
        // It may have been found by now, but nobody has taken it.
        assert!(matches!(resolver.submit(99, "192.0.2.1", Family::Any), Err(ResolveError::Temporary(_))));
        resolver.submit(100, "192.0.2.1", Family::V6).unwrap();
        assert_eq!(
            (resolver.running.len(), resolver.waiting.len()),
            (2, 0),
            "the family is another question"
        );
        let mut answers = [resolver.take().unwrap(), resolver.take().unwrap()];
        answers.sort_by_key(|answer| answer.lookups[0]);
        assert_eq!(answers[0].lookups, (0..ASKERS_MAX as u64).collect::<Vec<_>>());
        assert_eq!(answers[1], Answer { lookups: vec![100], result: Err(ResolveError::NotFound) });
        assert_eq!(resolver.take(), None);
        resolver.submit(99, "192.0.2.1", Family::Any).unwrap();
        assert_eq!(resolver.take().unwrap().lookups, [99], "what was found is not kept");
    }

    #[test]
    fn where_lookups_hang_only_so_many_names_wait() {
        let mut resolver = Resolver::new().unwrap();
        let names = (LOOKUPS_RUNNING_MAX + NAMES_WAITING_MAX) as u64;
        let address = |number: u64| format!("10.0.{}.{}", number / 256, number % 256);
        for lookup in 0..names {
            resolver.submit(lookup, &address(lookup), Family::Any).unwrap();
        }
        assert_eq!(resolver.waiting.len(), NAMES_WAITING_MAX);
        assert!(matches!(resolver.submit(names, "10.9.9.9", Family::Any), Err(ResolveError::Temporary(_))));
        resolver.submit(names, &address(names - 1), Family::Any).unwrap();
        assert_eq!(resolver.take().unwrap().lookups.len(), 1);
        resolver.submit(names + 1, "10.9.9.9", Family::Any).unwrap();
        let answered =
            std::iter::from_fn(|| resolver.take()).map(|answer| answer.lookups.len()).sum::<usize>();
        assert_eq!(answered as u64, names + 1, "all but the one that was taken before");
    }
}
