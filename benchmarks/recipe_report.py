def write_report(rows, path, machine):
    pass
