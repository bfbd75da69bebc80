//! Without any fault, with one after each write, and with single ones that are told exactly.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;

use super::{
    Scene,
    gateway::{ADDRESSES, How},
    objects,
    scene::{self, Change},
    storm::KINDS,
};
use crate::world::{
    Chance,
    oracle::{twice, written},
    simulate,
};

const NOTHING: [String; 0] = [];

#[test]
fn what_is_exported_is_carried_and_mirrored_and_then_there_is_silence() {
    let kinds = simulate(0, async || {
        let scene = Scene::new();
        let theirs = scene::theirs(scene.exporter());
        let (exporter, importer) =
            (scene.start_exporter("exporter", false).await, scene.world.start("importer", false));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(scene.wrong(), NOTHING);
        let since = scene.world.trace.len();
        sleep(Duration::from_secs(7200)).await;
        let late: Vec<String> = written(&scene.world, since).into_iter().map(|write| write.line).collect();
        assert_eq!(late, NOTHING);
        for (change, service) in scene::script(&mut Chance::new(0), 40) {
            scene::change(scene.exporter(), change, service);
            sleep(Duration::from_secs(20)).await;
        }
        sleep(Duration::from_secs(120)).await;
        assert_eq!(scene.wrong(), NOTHING);
        assert_eq!(scene::theirs(scene.exporter()), theirs);
        let wrote = written(&scene.world, 0).into_iter().filter(|write| write.server == "east");
        let kinds: BTreeSet<String> = wrote.map(|write| format!("{} {}", write.verb, write.kind)).collect();
        scene.end();
        exporter.stop().await;
        importer.stop().await;
        kinds
    });
    let met = KINDS.map(|(verb, kind)| format!("{} {kind}", verb.as_str()));
    assert_eq!(kinds, BTreeSet::from(met), "the kinds of writes that meet every fault");
}

/// The exporter's controller dies with every single one of its first writes, and another one takes over.
#[test]
fn l09_a_crash_after_any_write_of_an_exporter_makes_nothing_twice_and_loses_nothing() {
    let writes = simulate(0, async || {
        let scene = Scene::new();
        let exporter = scene.start_exporter("one", false).await;
        sleep(Duration::from_secs(60)).await;
        let writes = exporter.wire.writes();
        scene.end();
        exporter.stop().await;
        writes
    });
    assert!(writes > 20, "a claim, a route and a part of a slice for each port: {writes}");
    for n in 1..=writes {
        simulate(n, async || {
            let scene = Scene::new();
            let importer = scene.world.start("importer", false);
            let exporter = scene.start_exporter("one", false).await;
            exporter.wire.die_after(n);
            exporter.death(Duration::from_secs(60)).await;
            scene.stop_exporter(exporter, Duration::from_secs(3), false).await;
            let exporter = scene.start_exporter("two", false).await;
            sleep(Duration::from_secs(120)).await;
            assert_eq!(scene.wrong(), NOTHING, "after write {n}");
            assert_eq!(twice(&objects(written(&scene.world, 0))), NOTHING, "after write {n}");
            scene.end();
            exporter.stop().await;
            importer.stop().await;
        });
    }
}

/// One of two addresses fails; controllers of both sides come and go meanwhile.
#[test]
fn g18_an_address_that_fails_is_withdrawn_until_it_answers_whoever_comes_and_goes() {
    simulate(0, async || {
        let scene = Scene::new();
        let exporter = scene.start_exporter("exporter", false).await;
        let importer = scene.world.start("importer", false);
        sleep(Duration::from_secs(60)).await;
        let ready = |scene: &Scene| {
            let slices = scene.world.importer.all("endpointslices");
            let slice = slices.into_iter().find(|((_, name), _)| name.starts_with("s0-east")).unwrap().1;
            ADDRESSES.map(|address| {
                let all = slice["endpoints"].as_array().unwrap();
                all.iter().any(|e| e["addresses"][0] == address && e["conditions"]["ready"] == true)
            })
        };
        assert_eq!(ready(&scene), [true, true]);
        scene.gateway.set(ADDRESSES[0], How::Silent);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(ready(&scene), [false, true]);
        importer.kill().await;
        let importer = scene.world.start("importer-2", false);
        scene.stop_exporter(exporter, Duration::from_secs(5), false).await;
        sleep(Duration::from_secs(300)).await;
        assert_eq!(ready(&scene), [false, true]);
        let exporter = scene.start_exporter("exporter-2", false).await;
        sleep(Duration::from_secs(120)).await;
        assert_eq!(ready(&scene), [false, true]);
        scene.gateway.set(ADDRESSES[0], How::Answers);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(ready(&scene), [true, true]);
        assert_eq!(scene.wrong(), NOTHING);
        scene.end();
        exporter.stop().await;
        importer.stop().await;
    });
}

/// An importer that cannot see the exporter stops calling a port before somebody else may have it.
#[test]
fn g07_a_port_changes_hands_only_after_importers_that_are_cut_off_have_let_it_go() {
    simulate(0, async || {
        let scene = Scene::new();
        let exporter = scene.start_exporter("exporter", false).await;
        let importer = scene.world.start("importer", false);
        sleep(Duration::from_secs(60)).await;
        importer.links["east"].set(crate::server::Mode::Held);
        // All ports change hands as soon as they may.
        for service in 0..4 {
            scene::change(scene.exporter(), Change::Unexport, service);
        }
        for service in 4..8 {
            scene::change(scene.exporter(), Change::Export, service);
        }
        sleep(Duration::from_secs(600)).await;
        assert_eq!(scene.witness.wrong(), NOTHING);
        importer.links["east"].set(crate::server::Mode::Open);
        sleep(Duration::from_secs(120)).await;
        assert_eq!(scene.wrong(), NOTHING);
        scene.end();
        exporter.stop().await;
        importer.stop().await;
    });
}
