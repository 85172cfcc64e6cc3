"""What all else stands on: files, devices, downloads, the check of a machine; nothing above is imported here."""
