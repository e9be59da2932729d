//! Many elements of one map at a time: reading all, putting some, deleting some.

use std::collections::BTreeMap;

use aya::maps::{
    HashMap, MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};

use super::{super::DatapathError, Result, batch};
use crate::plan::Prefix;

/// Everything a hash map holds. An entry that goes away meanwhile may be left out.
pub fn entries<K: aya::Pod, V: aya::Pod>(map: &HashMap<MapData, K, V>, name: &str) -> Result<Vec<(K, V)>> {
    let mut entries = Vec::new();
    visit(map, name, |key, value| entries.push((key, value)))?;
    Ok(entries)
}

/// The same, one by one: a table of flows is too large to be held at once for the sake of a few.
pub(in crate::datapath) fn visit<K: aya::Pod, V: aya::Pod>(
    map: &HashMap<MapData, K, V>,
    name: &str,
    visit: impl FnMut(K, V),
) -> Result<()> {
    batch::visit(map, visit).map_err(DatapathError::map(name))
}

/// Adds or changes entries; a full map is named with the flag that sets its size.
pub(super) fn put<K: aya::Pod, V: aya::Pod>(
    map: &mut HashMap<MapData, K, V>,
    entries: &[(K, V)],
    name: &str,
    flag: &'static str,
) -> Result<()> {
    for (key, value) in entries {
        map.insert(key, value, 0).map_err(|source| {
            let full = matches!(&source, MapError::SyscallError(error)
                if error.io_error.raw_os_error() == Some(nix::libc::E2BIG));
            if full {
                DatapathError::MapFull {
                    map: name.to_owned(),
                    flag,
                }
            } else {
                DatapathError::Map {
                    map: name.to_owned(),
                    source,
                }
            }
        })?;
    }
    Ok(())
}

/// Deletes keys; one that is gone already is no error.
pub(in crate::datapath) fn delete<K: aya::Pod, V: aya::Pod>(
    map: &mut HashMap<MapData, K, V>,
    keys: &[K],
    name: &str,
) -> Result<()> {
    for key in keys {
        match map.remove(key) {
            Err(error) if !is_gone(&error) => return Err(DatapathError::map(name)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Everything a trie holds.
pub(in crate::datapath) fn prefixes<K: aya::Pod + Ord, V: aya::Pod>(
    map: &LpmTrie<MapData, K, V>,
    name: &str,
) -> Result<BTreeMap<Prefix<K>, V>> {
    let prefix = |key: Key<K>| Prefix {
        data: key.data(),
        length: key.prefix_len(),
    };
    let entries = map.iter().map(|entry| entry.map(|(key, value)| (prefix(key), value)));
    entries
        .collect::<std::result::Result<_, _>>()
        .map_err(DatapathError::map(name))
}

/// Adds or changes entries of a trie.
pub(super) fn put_prefixes<K: aya::Pod, V: aya::Pod>(
    map: &mut LpmTrie<MapData, K, V>,
    entries: &[(Prefix<K>, V)],
    name: &str,
) -> Result<()> {
    for (prefix, value) in entries {
        map.insert(&key(prefix), value, 0).map_err(DatapathError::map(name))?;
    }
    Ok(())
}

/// Deletes keys of a trie; one that is gone already is no error.
pub(super) fn delete_prefixes<K: aya::Pod, V: aya::Pod>(
    map: &mut LpmTrie<MapData, K, V>,
    prefixes: &[Prefix<K>],
    name: &str,
) -> Result<()> {
    for prefix in prefixes {
        match map.remove(&key(prefix)) {
            Err(error) if !is_gone(&error) => return Err(DatapathError::map(name)(error)),
            _ => {}
        }
    }
    Ok(())
}

fn key<K: aya::Pod>(prefix: &Prefix<K>) -> Key<K> {
    Key::new(prefix.length, prefix.data)
}

/// Whether the kernel found no such key.
pub(in crate::datapath) fn is_gone(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(nix::libc::ENOENT),
        _ => false,
    }
}
