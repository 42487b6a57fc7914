"""The doctor tries things and says how to mend what fails."""

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
