//! How many interfaces are plugged into a network?
//!
//! libvirt's XML has a number, which each virNetworkUpdate sets back to zero (seen on 11.3). Its list of ports is right, but
//! keeps what it had when it is killed while a guest starts or ends: nothing in libvirt ever takes such a port away, until
//! the network is stopped.

use std::ffi::CStr;
use std::ptr;

use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::network::Network;
use virt::sys;

use crate::xml::Element;

type VirtResult<T> = Result<T, Error>;

/// How many ports libvirt has.
pub(super) fn count(network: &Network) -> VirtResult<u32> {
    // SAFETY: the network's pointer is valid as long as `network` lives; a null array asks for the count alone.
    listed(unsafe { sys::virNetworkListAllPorts(network.as_ptr(), ptr::null_mut(), 0) })
}

/// How many of them are of guests that run.
pub(super) fn by_running_guests(connect: &Connect, network: &Network) -> VirtResult<u32> {
    let mut plugged = 0;
    for owner in owners(network)? {
        plugged += u32::from(runs(connect, &owner)?);
    }
    Ok(plugged)
}

/// Whether a domain runs. Its id is there from before its first port is made until after its last one is gone.
fn runs(connect: &Connect, uuid: &str) -> VirtResult<bool> {
    let found = connect
        .lookup_domain_by_uuid_string(uuid)
        .and_then(|domain| domain.is_active());
    match found {
        Err(error) if error.code().is(ErrorNumber::NoDomain) => Ok(false),
        found => found,
    }
}

/// The UUIDs of the domains that ports were made for.
fn owners(network: &Network) -> VirtResult<Vec<String>> {
    let mut ports = ptr::null_mut();
    // SAFETY: the network's pointer is valid as long as `network` lives, and `ports` takes the array.
    let count = listed(unsafe { sys::virNetworkListAllPorts(network.as_ptr(), &raw mut ports, 0) })?;
    let mut owners = Vec::new();
    for index in 0..count as usize {
        // SAFETY: the array has `count` ports, each of which is ours to free, once.
        owners.extend(unsafe {
            let port = *ports.add(index);
            let owner = owner(port);
            sys::virNetworkPortFree(port);
            owner
        });
    }
    // SAFETY: libvirt allocated the array with malloc and leaves it to its caller; null, when there is none, may be freed.
    unsafe { libc::free(ports.cast()) };
    Ok(owners)
}

/// Of one that is gone by now, or says nobody's name: none.
///
/// # Safety
///
/// The port must be one that libvirt gave and that was not freed.
unsafe fn owner(port: sys::virNetworkPortPtr) -> Option<String> {
    // SAFETY: by what is asked of the caller.
    let text = unsafe { sys::virNetworkPortGetXMLDesc(port, 0) };
    if text.is_null() {
        return None;
    }
    // SAFETY: libvirt made the text with malloc, ended it with a zero and leaves it to its caller; it is read and freed once.
    let xml = unsafe {
        let xml = CStr::from_ptr(text).to_string_lossy().into_owned();
        libc::free(text.cast());
        xml
    };
    let root = Element::parse(&xml).ok()?;
    Some(root.path(&["owner", "uuid"])?.content().to_owned())
}

/// What libvirt's answer says: a number, or an error.
fn listed(count: i32) -> VirtResult<u32> {
    u32::try_from(count).or_else(|_| {
        let error = Error::last_error();
        // libvirt's test driver has no ports: its guests are plugged into nothing.
        if error.code().is(ErrorNumber::NoSupport) {
            Ok(0)
        } else {
            Err(error)
        }
    })
}
