-- Which certificate version was last seen on the wire: a run that is killed between storing and serving is finished.
ALTER TABLE domain ADD COLUMN served INTEGER NOT NULL DEFAULT 0;

UPDATE domain SET served = version;
