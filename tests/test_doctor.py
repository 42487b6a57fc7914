"""The doctor tries things and says how to mend what fails."""

from importlib.metadata import requires

import pytest

from rtstyle import doctor
from rtstyle.doctor import examine


def test_doctor_has_one_line_for_each_matter_and_a_fix_for_what_fails():
    findings = examine()
    subjects = [finding.subject for finding in findings]
    assert {"rtstyle", "packages", "processor", "backend openvino", "encoder libx264", "cameras", "display"} <= set(
        subjects
    )
    for finding in findings:
        assert "\n" not in finding.says
        assert finding.says
        assert finding.fix or finding.works is not False
    by_subject = {finding.subject: finding for finding in findings}
    assert by_subject["backend openvino"].works
    assert by_subject["encoder libx264"].works


def test_the_gpu_and_its_decoder_are_tried_and_not_only_looked_up_in_a_list():
    """FFmpeg lists NVDEC everywhere. That a machine has no GPU is no fault of it, and software takes over."""
    from rtstyle.backends.cuda import driver_problem

    findings = {finding.subject: finding for finding in examine()}
    if driver_problem() is None:
        assert findings["NVIDIA GPU"].works
        return
    assert findings["NVIDIA GPU"].works is None
    assert findings["decoder nvdec"].works is None
    assert "software decodes" in findings["decoder nvdec"].says
    assert not findings["backend tensorrt"].works
    assert "driver" in findings["backend tensorrt"].says or "install" in findings["backend tensorrt"].says


OTHERS = ['numpy>=90; extra == "x"', 'numpy>=90; python_version < "3"']
"""What other environments and extras need."""


@pytest.mark.parametrize(
    ("installed", "fits"), [("18.1.0", True), ("18.0.0", False), ("19.0.2", False), ("18.2", True)]
)
def test_a_package_that_pip_should_not_have_installed_is_named(installed, fits, monkeypatch):
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: installed if name == "av" else real(name))
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy>=1.26", "av<19,>=18.1", *OTHERS])
    found = list(doctor._unfit())
    assert found == [] if fits else [finding.subject for finding in found] == ["av"]
    assert all(
        finding.fix == "pip install 'av>=18.1,<19'" and finding.says.startswith(f"{installed} ") for finding in found
    )


def test_what_is_installed_here_fits():
    assert requires("rtstyle")
    assert list(doctor._unfit()) == []
