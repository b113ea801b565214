"""Values that the parts of real files have, with where they were found."""

_LVM = "LVM_SPECTRO_REDUX/lvm_"
_SDSSV = "BOSS_SPECTRO_REDUX/(?:sp|spec|conf|field).*"

VALUES: tuple[tuple[str, str, str], ...] = (
    # https://github.com/sdss/lvmdrp: functions/run_drp.py, run_calseq.py, run_twilights.py
    (_LVM + "frame", "kind", "Frame-b1 CFrame SFrame Arc-b1 Flat-b"),
    (
        _LVM + "(?:master|cal)",
        "kind",
        "mbias mdark mpixflat mtrace mwidth mwave_neon_hgne_argon_xenon mfiberflat_twilight",
    ),
    (_LVM + "anc", "kind", "p d l x w h"),
    ("LVM_MASTER_DIR/lvm_calib", "kind", "bias pixmask trace wave lsf"),
    ("LVM_MASTER_DIR/lvm_calib", "mjd", "60177 pixelmasks"),
    (".*", "mjd", "51602 55181 60665"),
    # https://www.sdss4.org/dr17/imaging/, https://www.sdss3.org/dr9/data_access/bulk.php
    ("(?:PHOTO|BOSS_PHOTOOBJ).*", "filter", "u g r i z"),
    ("(?:PHOTO|BOSS_PHOTOOBJ|SEGUE2_TARGET|SDSS_TARGET|BOSS_TARGET).*", "camcol", "1 2 3 4 5 6"),
    ("(?:spectrodir|BOSS_SPECTRO_).*", "br", "b r"),
    ("(?:spectrodir)/spec.*", "run2d", "26 103 104 v5_4_45 v5_7_2 v5_10_0 v5_13_2"),
    ("(?:spectrodir)/spec.*", "plateid", "0266 3586 10235"),
    ("(?:spectrodir)/spec.*", "fiberid", "0001 0640 1000"),
    # https://www.sdss.org/dr19/bhm/, https://github.com/Heptazhou/SDSS-SpecViewer (test/sdss.jl)
    (_SDSSV, "fieldid", "15143 112360"),
    ("BOSS_SPECTRO_REDUX/spec(?:Lite|Full).*", "catalogid", "27021598150202075 63050396111356292"),
    (_SDSSV, "coadd", "allepoch"),
    (_SDSSV, "obs", "apo lco"),
    # https://github.com/sdss/datamodel, https://github.com/jobovy/apogee, https://github.com/astropy/specutils
    ("APOGEE_(?:REDUX|ASPCAP)/(?:ap|aspcap)(?:Visit|Star)", "telescope", "apo25m lco25m apo1m"),
    ("APOGEE_(?:REDUX|ASPCAP)/ap(?:Visit|Star)-1m", "telescope", "apo1m"),
    (
        "APOGEE_(?:REDUX|ASPCAP)/(?:ap|aspcap)(?:Visit|Star).*",
        "field",
        "4291 000+02 N7789 K01_082+17 293-37-C 293+62_btx 120-08-RV RM_XMM-LSS hip Mdwarfs 100001",
    ),
    (
        "APOGEE_(?:REDUX|ASPCAP)/(?:ap|aspcap)Star",
        "obj",
        "2M00012723+6258059 2M00002479+6025311-59830 2M18413657-0334237-rvstd VESTA",
    ),
    ("APOGEE_REDUX/apVisit", "fiber", "001 300"),
    ("MWM_ASTRA/mwm.*", "sdss_id", "54392544 103020000"),
)
"""Products, as in `Key.of`, a key, and values that files of theirs have, as they are in a partition key."""
