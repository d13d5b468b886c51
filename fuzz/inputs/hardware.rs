//! Fuzz inputs of configurations and topologies, like those in `traces.rs`.

use super::traces::{with_folder, write};
use mercury_hardware::config::Config;
use mercury_hardware::topology;

/// Reads a topology file.
pub fn topology(bytes: &[u8]) {
    with_folder(|folder| {
        let path = folder.join("topology.csv");
        write(&path, bytes);
        if let Ok(topology) = topology::read(&path) {
            assert!(!topology.layers.is_empty());
            assert!(topology.layers.iter().all(|layer| layer.gemm.macs() > 0));
        }
    });
}

/// Reads a configuration file; an accepted one must be accepted again in the form of `run.json`.
pub fn configuration(bytes: &[u8]) {
    with_folder(|folder| {
        let path = folder.join("configuration.toml");
        write(&path, bytes);
        let Ok(table) = Config::file(&path) else { return };
        if let Ok(config) = Config::resolve("a fuzzer", table, &[]) {
            let written = toml::Table::try_from(&config).expect("a configuration is a table");
            assert!(Config::resolve("a fuzzer", written, &[]).is_ok_and(|again| again == config));
            let _ = (config.timing_array(), config.dataflow(), config.memory_model(), config.scheme());
        }
    });
}
