"""A phone for those who have none: an ``adb`` whose devices are folders of this machine."""
