"""The processors that ship, and how they are found."""

import pytest

from clara_dicom_adapter.configuration.processors import GroupedInstance, InstanceGroup, find, problems
from clara_dicom_adapter.errors import ConfigurationInvalid


def group(*series: str) -> InstanceGroup:
    instances = [
        GroupedInstance(
            node_id="n1",
            association_id="a1",
            sequence=number,
            received_at=number,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2" if uid != "sr" else "1.2.840.10008.5.1.4.1.1.88.11",
            sop_instance_uid=f"1.2.{number}",
            study_instance_uid="1.2",
            series_instance_uid=uid,
            bytes=1,
        )
        for number, uid in enumerate(series)
    ]
    return InstanceGroup("CLARA", "CT1", incomplete=False, instances=instances)


@pytest.mark.parametrize(
    "name",
    [
        "ae-title",
        "Nvidia.Clara.DicomAdapter.Server.Processors.AeTitleJobProcessor, Nvidia.Clara.DicomAdapter",
        "Nvidia.Clara.Dicom.Processors.JobProcessor,Nvidia.Clara.DicomAdapter",
    ],
)
def test_type_strings_of_every_version_find_the_default_processor(name: str) -> None:
    processor = find(name)({"pipeline-lung": "P1", "Pipeline-Bone": "P2", "priority": "Higher"})
    jobs = list(processor.jobs(group("s1", "s2")))
    assert [(job.name, job.pipeline, len(job.instances), job.priority) for job in jobs] == [
        ("lung", "P1", 2, "higher"),
        ("bone", "P2", 2, "higher"),
    ]


def test_an_unknown_processor_is_told_with_those_that_are_installed() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"'Nope' is not installed; installed are: ae-title, series"):
        find("Nope")


def test_everything_wrong_with_settings_is_listed_in_the_documented_words() -> None:
    wrong = {"timeout": "-1", "jobRetryDelay": "x", "priority": "urgent", "groupBy": "what", "colour": "red"}
    assert problems("CLARA", "ae-title", wrong) == [
        "[ERROR] Invalid processor setting 'timeout' specified for AE Title CLARA.",
        "[ERROR] Invalid processor setting 'jobRetryDelay' specified for AE Title CLARA.",
        "[ERROR] Invalid processor setting 'priority' specified for AE Title CLARA.",
        "[ERROR] Invalid processor setting 'groupBy' specified for AE Title CLARA.",
        "[WARNING] Processor setting ignored colour=red.",
        "[ERROR] No pipeline defined for AE Title CLARA.",
    ]


def test_sensible_settings_have_no_problems() -> None:
    settings = {"timeout": "0", "jobRetryDelay": "100", "priority": "LOWER", "groupBy": "0010,0020", "pipeline-x": "P"}
    assert problems("CLARA", "ae-title", settings) == []
    assert problems("CLARA", "ae-title", settings | {"groupBy": "none"}) == []


def test_the_series_processor_makes_one_job_per_series_and_declines_what_is_not_wanted() -> None:
    settings = {"pipeline-x": "P", "sopClasses": "1.2.840.10008.5.1.4.1.1.2", "minimumInstances": "2"}
    jobs = list(find("series")(settings).jobs(group("s1", "s2", "s1", "sr", "sr", "s2", "s3")))
    assert [(job.name, [i.series_instance_uid for i in job.instances]) for job in jobs] == [
        ("x-1", ["s1", "s1"]),
        ("x-2", ["s2", "s2"]),
    ]
    assert problems("CLARA", "series", {"minimumInstances": "0", "minimumInstnces": "3"}) == [
        "[WARNING] Processor setting ignored minimuminstnces=3.",
        "[ERROR] No pipeline defined for AE Title CLARA.",
        "[ERROR] Invalid processor setting 'minimumInstances' specified for AE Title CLARA.",
    ]


def test_several_processors_each_get_the_whole_group() -> None:
    """``processors`` is a list in 0.6; here its elements stand with ``;`` between them."""
    name = "Nvidia.Clara.Dicom.Processors.JobProcessor,Nvidia.Clara.DicomAdapter; series"
    settings = {"pipeline-x": "P", "minimumInstances": "2"}
    jobs = list(find(name)(settings).jobs(group("s1", "s1", "s2")))
    assert [(job.name, len(job.instances)) for job in jobs] == [("x", 3), ("x-1", 2)]
    assert problems("CLARA", name, settings) == []
    assert problems("CLARA", name, {"minimumInstances": "0"}) == [
        "[ERROR] No pipeline defined for AE Title CLARA.",
        "[ERROR] Invalid processor setting 'minimumInstances' specified for AE Title CLARA.",
    ]
    with pytest.raises(ConfigurationInvalid, match="'Nope' is not installed"):
        find("series;Nope")
