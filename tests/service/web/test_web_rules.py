"""The page of rules: shadow rules compared, and rules read anew by an admin who has seen what changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from service.web.conftest import add_people
from service.web.plant import Plant, csrf, post

from iscl_monai.service.database.tables import jobs
from iscl_monai.service.reload import SettingsReload
from iscl_monai.service.rules import Rule
from iscl_monai.service.settings import Settings
from iscl_monai.service.web.app import create_app
from iscl_monai.service.web.controls import Controls


def with_shadow(plant: Plant) -> None:
    shadow = Rule.model_validate({"name": "gentle", "when": {"Modality": "CT"}, "shadow": True, "strength": 0.5})
    plant.settings = plant.settings.model_copy(update={"rules": (*plant.settings.rules, shadow)})
    plant.app = plant.application()


def test_a_shadow_is_compared_on_the_pages_and_decides_nothing(plant: Plant) -> None:
    with_shadow(plant)
    series = plant.synthetic()
    main = plant.settled(series)
    shadow = main - 1
    client = plant.client("operator")
    assert plant.job(shadow)["shadow"] == 1
    plant.worked(main)
    plant.delivered(main)
    plant.move_job(shadow, "running", "sending", "done", result=plant.job(main)["result"])
    with plant.store.writing() as change:
        result = plant.job(main)["result"]
        regions = [{**result["regions"][0], "noise_after_hu": 16.01}]
        change.execute(jobs.update().where(jobs.c.id == shadow).values(result={**result, "regions": regions}))
    text = client.get(f"/series/{series}").text
    assert "Compared with shadow rules" in text
    assert "9.1" in text
    assert "16.0" in text
    assert f'Pictures <span class="quiet">job {main}</span>' in text
    assert f"/series/{series}?job={shadow}" in text
    rules = client.get(f"/rules?series={series}").text
    assert "Of 1 series (the newest), median: 75 % of the noise is left by this rule, 42 %" in rules
    assert "rule thin-ct fits" in rules
    assert '<option value="gentle">' not in text
    assert post(client, f"/series/{series}/process", rule="gentle").status_code == 404


@pytest.fixture
def reloadable(plant: Plant, tmp_path: Path) -> tuple[Plant, Path, list[Settings]]:
    path, used = tmp_path / "node.toml", []
    write(path, plant, "thin")

    def use(settings: Settings) -> None:
        used.append(settings)

    from iscl_monai.service.settings_file import read_settings

    reload = SettingsReload(path, read_settings(path), plant.store, use)
    controls = Controls(reload=reload)
    plant.app = create_app(plant.settings, plant.store, plant.intake, lambda: plant.parts, controls=controls)
    return plant, path, used


def write(path: Path, plant: Plant, name: str, strength: str = "1.0") -> None:
    rule = f'[[rules]]\nname = "{name}"\nstrength = {strength}\nprocess = false\n'
    path.write_text(f'data = "{plant.store.data}"\nbundle = "{plant.store.data}"\n{rule}')


def test_an_admin_sees_what_changes_before_it_is_used(reloadable: tuple[Plant, Path, list[Settings]]) -> None:
    plant, path, used = reloadable
    client = plant.client("admin")
    assert "has the rules that are used already" in post(client, "/rules/check").text
    write(path, plant, "other")
    text = post(client, "/rules/check").text
    assert "- rule 1, thin" in text
    assert "+ rule 1, other" in text
    assert used == []
    digest = text.split('name="digest" value="')[1].split('"')[0]
    write(path, plant, "third")
    assert post(client, "/rules/reload", digest=digest).status_code == 409
    write(path, plant, "other")
    assert post(client, "/rules/reload", digest=digest).status_code == 303
    assert [settings.rules[0].name for settings in used] == ["other"]
    assert ("admin", "reload rules", str(path)) in plant.audited()


def test_a_wrong_file_is_refused_on_the_page(reloadable: tuple[Plant, Path, list[Settings]]) -> None:
    plant, path, used = reloadable
    client = plant.client("admin")
    write(path, plant, "other", "7")
    for address in ("check", "reload"):
        answer = post(client, f"/rules/{address}")
        assert answer.status_code == 409
        assert "the old rules stay" in answer.text
    assert used == []


def test_only_an_admin_reloads_and_only_where_there_is_a_file(
    reloadable: tuple[Plant, Path, list[Settings]],
) -> None:
    plant, _, _ = reloadable
    operator = plant.client("operator")
    assert "Check the settings file" not in operator.get("/rules").text
    for address in ("check", "reload"):
        assert post(operator, f"/rules/{address}").status_code == 403
    plant.app = plant.application()
    admin = plant.client("admin")
    assert "Check the settings file" not in admin.get("/rules").text
    assert csrf(admin)
    assert post(admin, "/rules/check").status_code == 404


def test_an_accession_number_is_tested_and_not_shown(plant: Plant, tmp_path: Path, digest: str) -> None:
    rule = Rule.model_validate({"name": "r", "when": {"AccessionNumber": "~^R-"}, "send_to": ["pacs"]})
    other = add_people(Plant(tmp_path / "other"), digest)
    other.settings = other.settings.model_copy(update={"rules": (rule,)})
    other.app = other.application()
    series = other.synthetic(change=lambda dataset, _: setattr(dataset, "AccessionNumber", "R-77"))
    text = other.client("viewer").get(f"/rules?series={series}").text
    assert "R-77" not in text
    assert "(hidden)" in text
    assert "rule r fits" in text
